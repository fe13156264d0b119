//! Environment variables: `REXD_LISTEN` sets `listen`, `REXD_LIMITS__MAX_STREAMS` sets `limits.max_streams`.

use serde_json::{Map, Value};

use super::file;
use super::schema;

const PREFIX: &str = "REXD_";

/// Variables of the command line, not of the configuration.
const OF_THE_COMMAND_LINE: [&str; 4] = ["REXD_CONFIG", "REXD_LOG", "REXD_SERVER", "REXD_TOKEN_FILE"];

/// Deeper than any key (`registries.NAME.headers.X` has four levels); a bound, because merging recurses.
const DEEPEST: usize = 8;

/// What a variable of the environment is to the configuration.
pub(super) enum Variable {
    /// Not ours, or not for us.
    Ignored,
    /// Ours, and sets this.
    Layer(Value),
}

/// Reads one variable. Errors are sentences about the variable.
pub(super) fn read(name: &str, text: &str, schema: &Value) -> Result<Variable, String> {
    let Some(path) = name.strip_prefix(PREFIX) else {
        return Ok(Variable::Ignored);
    };
    if OF_THE_COMMAND_LINE.contains(&name) {
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
    if keys.len() > DEEPEST {
        return Err(format!("names a key more than {DEEPEST} levels deep; there is none"));
    }
    layer(&keys, text, schema).map(Variable::Layer)
}

/// `text` as the value of the key at `keys`, in the maps around it.
///
/// Where the schema wants text, it is taken as it stands: `[::]:50051` is an address, not a YAML list. Everything else
/// is YAML, so that numbers, lists and maps can be given.
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
/// `NAME_PORT_<n>_<PROTOCOL>` and `NAME_PORT_<n>_<PROTOCOL>_{PROTO,PORT,ADDR}`. To call them unknown would keep the
/// service from starting in any namespace that has it as a Service.
/// <https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables>
fn is_service_link(name: &str, text: &str) -> bool {
    // `REXD_PORT` alone could also be somebody's guess at a setting; the kubelet's is a URL: tcp://10.0.0.1:50051.
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
