//! `rexd`: one gRPC service that gives every caller, in any language, the operations of container registries.
//!
//! This crate doc is the map of the house; arrows point down only, a request travels down once and its answer comes up
//! once.
//!
//! | layer | module | what it is for |
//! |---|---|---|
//! | 4 | [`cli`] | the commands; wiring only |
//! | 4 | [`config`] | file, environment and flags make one validated configuration |
//! | 4 | [`telemetry`] | logs and traces |
//! | 4 | [`server`] | the listener: connections, TLS, health, ops endpoints, drain |
//! | 4 | [`grpc`] | the five handlers: parse, admit, call, encode |
//! | 4 | [`callers`] | who calls: tokens and certificates |
//! | 4 | [`policy`] | which registry, and what of it, a caller may read |
//! | 3 | [`client`] | the Distribution API, one operation a file |
//! | 2 | [`transport`] | the only user of reqwest: send, sign in, retry, guard |
//! | 1 | [`oci`] | names, references, digests, the streaming verifier; no I/O |
//! | 1 | [`error`] | `RexError` |
//! | 1 | `reloaded_file` | files that change while the service runs |
//! | – | [`demo`] | the embedded sample registry, which the tests use too |
//!
//! Layers 1 to 3 are a registry client that knows nothing of gRPC; `tests/layers.rs` keeps it so.
//!
//! # The way of one request
//!
//! `StreamBlob`: `grpc` receives the call -> `callers` tells who makes it -> `grpc::convert` makes registry, repository
//! and digest of it -> `policy` admits caller and registry -> `client`'s `blob` asks `endpoint` for the URL and the
//! token's scope -> `transport` signs in, sends, retries -> `client::blob` wraps the body with the verifier ->
//! `grpc::frame` makes messages, `grpc::body` sends them -> HTTP/2. Nothing on this way is a task of its own: the stream
//! is polled, so that HTTP/2 flow control reaches the upstream socket, and dropping it cancels upstream.

pub mod auth;
pub mod callers;
pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod error;
pub mod grpc;
pub mod http;
pub mod oci;
pub mod policy;
mod reloaded_file;
mod secret;
pub mod server;
pub mod telemetry;
pub mod upstream;

pub use error::RexError;
