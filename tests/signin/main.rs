//! Signing in: the challenge, the token protocol, what calls share and what they never share, and credentials that change
//! while the service runs. Everything goes through the real service, over sockets.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod basic;
mod protocol;
mod quirks;
mod refresh;
mod rotation;
mod sharing;
mod sources;
#[path = "../support/mod.rs"]
mod support;
mod token_service;

pub(crate) use support::calls::{Calls, Files, NAME, anonymous, assert_refused, auth, signed_in};
