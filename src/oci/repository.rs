//! The name of a repository: `<name>` of the OCI Distribution Specification, "Pulling manifests".

use std::{fmt, str::FromStr};

use super::{ParseError, Registry};

/// The specification notes that many clients limit the name, the registry's host included, to 255 characters. Here the
/// host has its own limit.
const MAX_LENGTH: usize = 255;

/// A repository within a registry.
///
/// The grammar is `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`, so a name cannot contain
/// `..`, `//`, `%`, `?`, `#` or a control character. A path built from it cannot leave its place in the URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(String);

impl Repository {
    /// Parses a name of a repository in `registry`. On Docker Hub, a name without a slash is prefixed with `library/`.
    pub fn of(registry: &Registry, name: &str) -> Result<Self, ParseError> {
        let repository: Self = name.parse()?;
        if registry.is_docker_hub() && !name.contains('/') {
            return Ok(Self(format!("library/{name}")));
        }
        Ok(repository)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path segments of the name.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl FromStr for Repository {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError("is empty"));
        }
        if text.len() > MAX_LENGTH {
            return Err(ParseError("is longer than 255 characters"));
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ParseError("must be lower case"));
        }
        if !text.split('/').all(is_component) {
            return Err(ParseError(
                "is not a repository name: components of a-z and 0-9, joined by '.', '_', '__' or '-', \
                 separated by '/'",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`: alphanumeric runs with exactly one separator between two of them.
fn is_component(component: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut rest = component;
    loop {
        let after_run = rest.trim_start_matches(is_alphanumeric);
        if after_run.len() == rest.len() {
            return false;
        }
        if after_run.is_empty() {
            return true;
        }
        let after_separator = after_run.trim_start_matches(['.', '_', '-']);
        let separator = after_run.strip_suffix(after_separator).unwrap_or(after_run);
        let allowed = matches!(separator, "." | "_" | "__")
            || (!separator.is_empty() && separator.bytes().all(|b| b == b'-'));
        if !allowed {
            return false;
        }
        rest = after_separator;
    }
}
