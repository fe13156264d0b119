//! The URLs of the API: OCI Distribution Specification, "Endpoints". Every path is built segment by segment from parsed
//! names, under the `/v2/` of the registry's configured URL.

use http::HeaderName;
use url::Url;

use crate::oci::{Digest, Reference, Repository};

/// The header with the API's version. Older than the specification.
pub(super) const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// The header with a manifest's digest ("Pulling manifests").
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// `GET /v2/_catalog?<query>`; not in the specification, but in distribution's HTTP API V2.
pub(super) fn catalog(base: &Url, query: Option<&str>) -> Url {
    under(base, ["_catalog"].into_iter(), query)
}

/// end-8: `GET /v2/<name>/tags/list?<query>`.
pub(super) fn tags(base: &Url, repository: &Repository, query: Option<&str>) -> Url {
    under(base, repository.segments().chain(["tags", "list"]), query)
}

/// end-3: `GET /v2/<name>/manifests/<reference>`.
pub(super) fn manifest(base: &Url, repository: &Repository, reference: &Reference) -> Url {
    under(base, repository.segments().chain(["manifests", reference.as_str()]), None)
}

/// end-2: `GET /v2/<name>/blobs/<digest>`.
pub(super) fn blob(base: &Url, repository: &Repository, digest: &Digest) -> Url {
    under(base, repository.segments().chain(["blobs", digest.as_str()]), None)
}

/// `base` ends in `/v2/`.
fn under<'a>(base: &Url, segments: impl Iterator<Item = &'a str>, query: Option<&str>) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url.set_query(query);
    url
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_paths_are_those_of_the_specification() {
        let base = Url::parse("https://r.example:5000/prefix/v2/").unwrap();
        let repository = "org/app".parse().unwrap();
        assert_eq!(catalog(&base, Some("n=5")).as_str(), "https://r.example:5000/prefix/v2/_catalog?n=5");
        assert_eq!(tags(&base, &repository, None).path(), "/prefix/v2/org/app/tags/list");
        assert_eq!(
            manifest(&base, &repository, &"v1".parse().unwrap()).path(),
            "/prefix/v2/org/app/manifests/v1"
        );
        let digest = format!("sha256:{}", "a".repeat(64));
        let url = blob(&base, &repository, &digest.parse().unwrap());
        assert_eq!(url.path(), format!("/prefix/v2/org/app/blobs/{digest}"));
    }

    proptest! {
        /// Every text that parses as a name stays under `/v2/`, on the same host, without a query.
        #[test]
        fn no_name_leaves_its_path(name in "[a-z0-9._/%?#:@\\\\ -]{1,40}", reference in "[a-zA-Z0-9._:%/?#-]{1,40}") {
            let base = Url::parse("https://r.example/v2/").unwrap();
            if let (Ok(repository), Ok(reference)) = (name.parse::<Repository>(), reference.parse::<Reference>()) {
                let url = manifest(&base, &repository, &reference);
                prop_assert_eq!(url.path(), format!("/v2/{name}/manifests/{reference}"));
                prop_assert_eq!(url.host_str(), Some("r.example"));
                prop_assert_eq!(url.query(), None);
            }
        }
    }
}
