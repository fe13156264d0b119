//! Environment variables: `REXD_LISTEN` sets `listen`, `REXD_LIMITS__MAX_STREAMS` sets `limits.max_streams`.

use serde_json::{Map, Value};

use super::file;
use super::schema;

const PREFIX: &str = "REXD_";

/// Variables that the command line reads. They are not part of the configuration.
const COMMAND_LINE_VARIABLES: [&str; 4] = ["REXD_CONFIG", "REXD_LOG", "REXD_SERVER", "REXD_TOKEN_FILE"];

/// The most levels of a key. The deepest key, `registries.NAME.headers.X`, has four. The limit exists because merging recurses.
const MAX_LEVELS: usize = 8;

/// The meaning of an environment variable for the configuration.
pub(super) enum Variable {
    /// The variable does not belong to the configuration.
    Ignored,
    /// The variable sets this value.
    Layer(Value),
}

/// Reads one variable. An error is the predicate of a sentence about the variable.
pub(super) fn read(name: &str, text: &str, schema: &Value) -> Result<Variable, String> {
    let Some(path) = name.strip_prefix(PREFIX) else {
        return Ok(Variable::Ignored);
    };
    if COMMAND_LINE_VARIABLES.contains(&name) {
        return Ok(Variable::Ignored);
    }
    let keys: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
    let known = schema::members(schema);
    if !keys.first().is_some_and(|first| known.contains(&first.as_str())) {
        if is_service_link(name, text) {
            return Ok(Variable::Ignored);
        }
        let variables: Vec<String> =
            known.iter().map(|key| format!("{PREFIX}{}", key.to_ascii_uppercase())).collect();
        let variables: Vec<&str> = variables.iter().map(String::as_str).collect();
        return Err(format!("is not known; {}", schema::suggest(name, &variables)));
    }
    if keys.len() > MAX_LEVELS {
        return Err(format!("names a key of more than {MAX_LEVELS} levels; no key has so many"));
    }
    layer(&keys, text, schema).map(Variable::Layer)
}

/// Makes `text` the value of the key at `keys`, inside the maps that contain the key.
///
/// Where the schema expects text, `text` is used unchanged: `[::]:50051` is an address, not a YAML list. Everything else
/// is parsed as YAML, so numbers, lists and maps are possible.
pub(super) fn layer(keys: &[String], text: &str, schema: &Value) -> Result<Value, String> {
    let kinds = schema::node(schema, keys).map(schema::kinds).unwrap_or_default();
    let is_text = kinds.contains(&"string") && kinds.iter().all(|kind| matches!(*kind, "string" | "null"));
    let value = match text {
        "" | "~" | "null" if is_text && kinds.contains(&"null") => Value::Null,
        _ if is_text => Value::String(text.to_owned()),
        _ => file::parse(text)?,
    };
    Ok(keys.iter().rev().fold(value, |value, key| Value::Object(Map::from_iter([(key.clone(), value)]))))
}

/// Whether Kubernetes set this variable, because a Service named `rexd` or `rexd-something` is in the namespace.
///
/// The kubelet gives containers (`enableServiceLinks`, on by default) for each Service the variables
/// `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT`, `NAME_SERVICE_PORT_<PORTNAME>`, and Docker's older `NAME_PORT`,
/// `NAME_PORT_<n>_<PROTOCOL>` and `NAME_PORT_<n>_<PROTOCOL>_{PROTO,PORT,ADDR}`. If they were errors, the service could
/// not start in a namespace that has a Service of this name.
/// <https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables>
fn is_service_link(name: &str, text: &str) -> bool {
    // `REXD_PORT` could also be an operator's mistake. The kubelet's value is a URL: tcp://10.0.0.1:50051.
    if name.ends_with("_SERVICE_HOST") || (name.ends_with("_PORT") && text.contains("://")) {
        return true;
    }
    if let Some((_, rest)) = name.split_once("_SERVICE_PORT") {
        return rest.is_empty() || rest.starts_with('_');
    }
    name.match_indices("_PORT_").any(|(at, separator)| {
        let rest = name.get(at + separator.len()..).unwrap_or_default();
        let mut parts = rest.split('_');
        let number = parts.next().is_some_and(|part| part.parse::<u16>().is_ok());
        let protocol = parts.next().is_some_and(|part| matches!(part, "TCP" | "UDP" | "SCTP"));
        let detail = parts.next().is_none_or(|part| matches!(part, "PROTO" | "PORT" | "ADDR"));
        number && protocol && detail && parts.next().is_none()
    })
}
