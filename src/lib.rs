//! `rexd`: one gRPC service that gives every caller, in any language, the operations of container registries.
//!
//! This page is the map of the crate. A module imports only from modules below it: a request passes down through the
//! layers once, and its response comes up once.
//!
//! | layer | module | what it is for |
//! |---|---|---|
//! | 6 | [`cli`] | the commands; connects the other modules |
//! | 6 | [`config`] | file, environment and flags make one validated configuration |
//! | 6 | [`telemetry`] | logs and traces |
//! | 6 | [`server`] | the listener: connections, TLS, health, ops endpoints, shutdown |
//! | 5 | [`grpc`] | the five handlers: parse, authorize, call, encode |
//! | 5 | [`callers`] | identifies callers by token or certificate, and enforces their limits |
//! | 5 | [`policy`] | decides which registries and repositories a caller may read, and how much |
//! | 4 | [`reads`] | one read for everyone: coalesces identical reads, keeps what was read, and shares it with other replicas |
//! | 4 | [`client`] | the Distribution API, one operation in each file |
//! | 3 | [`upstream`] | one registry: the loop of send, challenge and retry |
//! | 2 | [`auth`] | challenges, credentials and tokens of one registry |
//! | 2 | [`mod@http`] | one guarded exchange: connections, redirects, retries, limits; the only user of reqwest |
//! | 1 | [`oci`] | names, references, digests, the streaming verifier; no I/O |
//! | 1 | [`memory`] | the memory that callers and registries may make the service hold |
//! | 1 | [`error`] | [`RexError`] |
//! | 1 | `reloaded_file`, `secret` | files that change while the service runs; secrets from files |
//! | – | [`demo`] | the embedded sample registry, which the tests also use |
//!
//! Within layer 4, `reads` is above `client`, and within layer 2, `auth` is above `http`. Layers 1 to 4 are a registry client without gRPC. `tests/layers.rs` fails on an
//! import that breaks these rules.
//!
//! # The path of a request
//!
//! `StreamBlob`:
//!
//! 1. `grpc` receives the call, and `callers` identifies the caller.
//! 2. `grpc::convert` parses registry, repository and digest, and `policy` checks that the caller may read them.
//! 3. `reads` opens the blob, once for all who ask at the same time.
//! 4. `client::blob` builds the URL (`endpoint`) and passes the request to the registry's `upstream`.
//! 5. `upstream` asks `auth` for the `Authorization` header and sends the request through `http`. After a challenge it
//!    sends the request again, signed in.
//! 6. `client::blob` hashes the body as it is read.
//! 7. `grpc::frame` makes messages of it, and `grpc::body` passes them to HTTP/2.
//!
//! None of these steps spawns a task. The stream is polled, so HTTP/2 flow control reaches the upstream socket, and
//! dropping the stream cancels the upstream request.

pub mod auth;
pub mod callers;
pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod error;
pub mod grpc;
pub mod http;
pub mod memory;
pub mod metrics;
pub mod oci;
pub mod policy;
pub mod reads;
mod reloaded_file;
mod secret;
pub mod server;
pub mod telemetry;
pub mod upstream;

pub use error::RexError;
