//! TLS of the listener. `files` reads the PEM files, `reload` applies their changes.

mod files;
mod reload;

pub(super) use files::client_certificate;
pub use files::{Error, Files};
pub(super) use reload::{Current, Reloader};
