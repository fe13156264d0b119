//! Nothing leaks: a configured secret reaches the registry it is for, its token service, and nothing else – no other
//! origin, no log at any level, no status, no panic's message. And no input makes the service connect to a forbidden address.
//!
//! Every secret is a canary, which can be found again in any of its encodings.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod addresses;
mod canary;
mod forbidden_listener;
mod logs;
mod output;
mod process;
mod proxies;
mod realms;
mod redirects;
mod response_urls;
#[path = "../support/mod.rs"]
mod support;
mod tls;
