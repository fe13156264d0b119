//! Media types of manifests: OCI Image Specification, media-types.md, and Docker's manifest version 2.

/// The media types that a manifest request accepts by default.
///
/// Schema 1 is not supported, but the list has its two types: a registry that has only schema 1 then sends it, and the
/// caller gets an error that names the type instead of NOT_FOUND.
pub const DEFAULT_ACCEPT: [&str; 6] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
];

/// The kind of document that a media type names.
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
