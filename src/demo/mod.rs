//! The embedded sample registry: a small, read-only registry of the OCI Distribution specification, with real content.
//!
//! `rexd demo` starts the service in front of it, so that every RPC can be tried without a network. The tests use it too,
//! so that they run over real HTTP. It does not use the rest of this crate: otherwise the same mistake in names, digests or
//! URLs could be on both sides, and no test would find it.
//!
//! | file | what it is for |
//! |---|---|
//! | `sample` | repositories, tags, manifests and blobs in memory, each under the digest of its exact bytes |
//! | `content` | the four repositories of the sample |
//! | `image` | image manifests, configurations and indexes, in OCI's and Docker's media types |
//! | `layer` | reproducible tar+gzip layers |
//! | `registry` | the listener and its connections |
//! | `routes` | the endpoints of the specification |
//! | `page` | `n`, `last` and the `Link` header |
//! | `range` | the `Range` header |

mod content;
mod image;
mod layer;
mod page;
mod range;
mod registry;
mod routes;
mod sample;

pub use content::{APP, DOCKER, MANY, MANY_TAGS, SBOM};
pub use registry::DemoRegistry;
pub use sample::{Sample, SampleError, SampleManifest, SampleRepository};
