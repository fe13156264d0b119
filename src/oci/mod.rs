//! Names, references, digests, platforms and the streaming verifier, as the OCI specifications define them. No I/O.
//!
//! Manifests, indexes and descriptors are `oci-spec`'s types. This module has types of its own where that crate's checks are
//! looser than the specification, and for names, so that no unparsed `String` is passed around. A path, a query or a scope
//! can be built from a [`Repository`] without checking it again.

mod digest;
mod media_type;
mod platform;
mod reference;
mod registry;
mod repository;
mod verify;

pub use digest::{Algorithm, Digest};
pub use media_type::{DEFAULT_ACCEPT, DocumentKind};
pub use platform::Platform;
pub use reference::{Reference, Tag};
pub use registry::Registry;
pub use repository::Repository;
pub use verify::Verifier;

/// Why a text cannot be parsed. The message does not quote the text, which may contain control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub(crate) &'static str);
