//! Which engine the replicas share, and how they sign in to it.

use std::path::PathBuf;

use super::address::Address;

/// Which engine the replicas share, and how they sign in to it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the engine is; the forms are those of `cache.shared.url`.
    pub url: String,
    /// The ACL user. Absent: the default user.
    pub username: Option<String>,
    /// The file with the password. Read again when it changes.
    pub password_file: Option<PathBuf>,
    /// The certificate authorities to trust instead of the system's, PEM. Read again when the file changes.
    pub ca_file: Option<PathBuf>,
    /// The first part of every key.
    pub prefix: String,
}

/// Checks a URL. The error is the predicate of a sentence about it, and does not quote it.
pub fn check_url(url: &str) -> Result<(), String> {
    Address::parse(url).map(drop)
}
