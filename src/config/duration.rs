//! Durations in readable form: `30s`, `5m`, `1h 30m`. For serde's `with` and schemars' `schema_with`.

use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serializer};

/// One year: far longer than any sensible limit, and short enough that adding it to a time never overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Reads a duration that is longer than zero and at most a year.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let duration = parse_or_zero(text)?;
    if duration.is_zero() {
        return Err("must be longer than zero".to_owned());
    }
    Ok(duration)
}

/// Reads a duration of at most a year.
pub(super) fn parse_or_zero(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("must be a duration with a unit: write {text}s for {text} seconds"));
    }
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("must be a duration with a unit, such as 30s or 5m ({error})"))?;
    if duration > LONGEST {
        return Err("must be at most 365 days".to_owned());
    }
    Ok(duration)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// The same for a duration that may be zero.
pub(super) mod or_zero {
    use super::{Deserialize, Deserializer, Duration, Schema, SchemaGenerator, json_schema, parse_or_zero};

    pub(in crate::config) use super::serialize;

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        parse_or_zero(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }

    pub(in crate::config) fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "human-duration-or-zero", "pattern": "^[0-9][0-9a-zA-Zµ. ]*$"})
    }
}

/// The pattern is for editors and other validators; it is looser than [`parse`], which this service checks with.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "human-duration", "pattern": "^[0-9][0-9a-zA-Zµ. ]*$"})
}
