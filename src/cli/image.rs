//! Targets of the client commands, written as in an image reference: `[registry/]repository[:tag][@digest]`.

use super::failure::Failure;

/// A repository and a reference in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Empty for the server's default.
    pub(super) registry: String,
    pub(super) repository: String,
    /// A tag or a digest. If both are given, the digest is used.
    pub(super) reference: Option<String>,
}

impl Image {
    /// Splits a reference into its parts; the server checks their grammar.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.to_owned())),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (name, None),
        };
        // A first component with a dot or a colon, or `localhost`, is a registry (the rule of the reference grammar).
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
            _ => ("", name),
        };
        if repository.is_empty() {
            return Err(Failure::Usage(format!(
                "{text:?} has no repository; write registry/repository[:tag]"
            )));
        }
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            reference: digest.or(tag),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn references_are_read_as_users_write_them() {
        for (text, registry, repository, reference) in [
            ("ghcr.io/org/app:v1", "ghcr.io", "org/app", Some("v1")),
            ("localhost:5000/app", "localhost:5000", "app", None),
            ("localhost/app:x", "localhost", "app", Some("x")),
            ("org/app", "", "org/app", None),
            ("alpine:3", "", "alpine", Some("3")),
            ("r.io/a@sha256:00", "r.io", "a", Some("sha256:00")),
            ("r.io/a:v1@sha256:00", "r.io", "a", Some("sha256:00")),
        ] {
            let image = Image::parse(text).unwrap();
            assert_eq!(
                (image.registry.as_str(), image.repository.as_str()),
                (registry, repository),
                "{text}"
            );
            assert_eq!(image.reference.as_deref(), reference, "{text}");
        }
        assert!(Image::parse("ghcr.io/").is_err());
        assert!(Image::parse("").is_err());
    }
}
