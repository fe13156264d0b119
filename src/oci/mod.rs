//! The specification's nouns: names, references, digests, platforms, and the streaming verifier. No I/O, no async.
//!
//! Manifests, indexes and descriptors are `oci-spec`'s types. The newtypes here exist where that crate's checks are looser
//! than the specification, or where a `String` would let an unparsed name travel: inside the service a repository is a
//! [`Repository`], so that a path, a query or a scope can be built from it without looking again.

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

/// Why a text is not what it should be; the text itself is left out, because it may hold control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub(crate) &'static str);
