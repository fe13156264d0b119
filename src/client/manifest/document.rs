//! A verified manifest.

use bytes::Bytes;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

/// A manifest, verified.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The media type, the computed digest, the size.
    pub descriptor: Descriptor,
    /// The exact bytes.
    pub content: Bytes,
    /// The bytes, parsed.
    pub document: Document,
}

/// What a manifest is.
#[derive(Debug, Clone)]
pub enum Document {
    /// An image manifest.
    Manifest(Box<ImageManifest>),
    /// An image index or manifest list.
    Index(Box<ImageIndex>),
    /// A type that this service does not parse.
    Other,
}
