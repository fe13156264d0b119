//! The flags that say where the configuration is, and those that override it.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Where the configuration is, and what overrides it.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// The configuration file, YAML
    #[arg(long, env = "REXD_CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
    /// Address of the gRPC listener; overrides the configuration
    #[arg(long, value_name = "ADDRESS")]
    pub(super) listen: Option<String>,
    /// Address of the listener for /livez and /readyz; overrides the configuration
    #[arg(long, value_name = "ADDRESS")]
    pub(super) ops_listen: Option<String>,
    /// Allow any public https registry, not only the listed ones
    #[arg(long)]
    pub(super) allow_unlisted: bool,
}
