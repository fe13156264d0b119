//! The listener against real sockets: what a hostile, silent or unlucky peer can do to it, and how it ends. A fact for each
//! line of the listener's threats; limits are set small, and tests check bounds, not exact times.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod caller;
mod content_type;
mod descriptors;
mod drain;
mod floods;
mod lifetime;
mod limits;
mod ops;
mod serving;
mod signals;
mod tls;
mod tls_callers;
mod wire;
