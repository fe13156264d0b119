//! The listener against real sockets: hostile and silent peers, limits, TLS, signals and
//! shutdown. Tests set small limits, and check bounds rather than exact times.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod caller;
mod content_type;
mod drain;
mod file_descriptors;
mod floods;
mod frame_floods;
mod honest_readers;
mod lifetime;
mod limits;
mod ops;
mod server;
mod signals;
mod slow_requests;
mod tls;
mod tls_callers;
mod wire;
