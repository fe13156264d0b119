//! Media types of manifests: OCI Image Specification, media-types.md, and Docker's manifest version 2.

/// What a registry is asked for when the caller does not say.
///
/// The two schema 1 types are here so that a registry which has nothing else says so; they are then refused by name
/// instead of as a 404 that nobody understands.
pub const DEFAULT_ACCEPT: [&str; 6] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
];

/// What a manifest's media type says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentKind {
    /// An image manifest.
    Manifest,
    /// An image index or a manifest list.
    Index,
    /// Docker's schema 1, which cannot be verified by its digest.
    Schema1,
    /// Anything else, which is passed on as bytes.
    Other,
}

impl DocumentKind {
    /// Classifies a media type without parameters.
    #[must_use]
    pub fn of(media_type: &str) -> Self {
        match media_type {
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => Self::Manifest,
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json" => Self::Index,
            "application/vnd.docker.distribution.manifest.v1+prettyjws"
            | "application/vnd.docker.distribution.manifest.v1+json" => Self::Schema1,
            _ => Self::Other,
        }
    }
}
