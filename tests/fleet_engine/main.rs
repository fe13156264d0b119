//! The engine of a fleet, with a real `redis-server`: what works, and what happens when it does not.
//!
//! Tests that need the program are ignored by default: `cargo test --test fleet_engine -- --include-ignored` runs all.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod budgets;
mod clients;
mod documents;
mod hostile;
mod leases;
mod log;
mod outages;
mod pauses;
mod server;
mod sign_in;
mod topologies;
