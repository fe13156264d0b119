//! Why a command failed, and with which exit code the process ends.

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command failed: exit code 1.
    Failed(String),
    /// The command line or the configuration is wrong: exit code 2.
    Usage(String),
}

impl Failure {
    pub(super) fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}
