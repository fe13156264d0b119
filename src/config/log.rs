//! `log`: what is logged, and how.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Filter in the syntax of tracing's EnvFilter, such as info or info,rexd=debug. --log and REXD_LOG replace it.
    pub filter: String,
    /// The form of a line: auto is text on a terminal and json elsewhere.
    pub format: LogFormat,
    /// Time without a response after which a call is logged as a warning while it runs.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub slow_call: Duration,
}

/// The form of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text, for people.
    Text,
    /// A JSON object a line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Auto, slow_call: Duration::from_secs(10) }
    }
}
