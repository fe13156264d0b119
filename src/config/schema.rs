//! The JSON Schema of the configuration, generated from its types, and the checks behind its `format`s.

use std::net::SocketAddr;

use jsonschema::Validator;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::address::{RegistryUrl, WebOrigin, check_registry_name};
use super::cache_store::StoreUrl;
use super::caller;
use super::duration;
use super::header::{HeaderText, check_name};
use super::service::Config;

/// The JSON Schema (draft 2020-12) of the configuration file, without references, so that it can be embedded.
///
/// It accepts everything that [`Config::load`] accepts. Only loading checks that files exist and that texts match their
/// `format`s, which other validators treat as annotations.
pub fn schema() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.into_generator().into_root_schema_for::<Config>().to_value()
}

/// The check for a text with a `format`. An error is the predicate of a sentence about the text.
type Check = fn(&str) -> Result<(), String>;

/// The checks use the same parsers as the types, so a text that the schema accepts can also be converted.
const FORMATS: [(&str, Check); 13] = [
    ("caller-name", caller::check_name),
    ("certificate-name", caller::check_certificate_name),
    ("engine-url", crate::reads::fleet::check_url),
    ("grant", caller::check_grant),
    ("header-name", check_name),
    ("header-value", |text| parsed(HeaderText::try_from(text.to_owned()))),
    ("human-duration", |text| duration::parse(text).map(drop)),
    ("human-duration-or-zero", |text| duration::parse_or_zero(text).map(drop)),
    ("registry-name", check_registry_name),
    ("registry-url", |text| parsed(RegistryUrl::try_from(text.to_owned()))),
    ("socket-address", |text| {
        let example = "must be an IP address and a port, such as 127.0.0.1:50051 or [::]:50051";
        text.parse::<SocketAddr>().map(drop).map_err(|_| example.to_owned())
    }),
    ("store-url", |text| parsed(StoreUrl::try_from(text.to_owned()))),
    ("web-origin", |text| parsed(WebOrigin::try_from(text.to_owned()))),
];

fn parsed<T, E: ToString>(result: Result<T, E>) -> Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

/// Why `text` is not of this format.
pub(super) fn explain(format: &str, text: &str) -> Option<String> {
    FORMATS.iter().find(|(name, _)| *name == format).and_then(|(_, check)| check(text).err())
}

/// A validator that also checks the formats.
pub(super) fn validator(schema: &Value) -> Result<Validator, String> {
    FORMATS
        .iter()
        .fold(jsonschema::options().should_validate_formats(true), |options, (name, check)| {
            options.with_format(*name, |text: &str| check(text).is_ok())
        })
        .build(schema)
        .map_err(|error| error.to_string())
}

/// The schema of the key at `keys`, if there may be such a key.
pub(super) fn node<'a>(schema: &'a Value, keys: &[String]) -> Option<&'a Value> {
    keys.iter().try_fold(schema, |schema, key| {
        let named = schema.get("properties").and_then(|properties| properties.get(key));
        named.or_else(|| schema.get("additionalProperties")).filter(|member| member.is_object())
    })
}

/// The keys a map with this schema may have.
pub(super) fn members(schema: &Value) -> Vec<&str> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.map(|properties| properties.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// The JSON types a value with this schema may have; empty when the schema does not restrict them.
pub(super) fn kinds(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Suggests the key most similar to `name`, or else lists all of them.
pub(super) fn suggest(name: &str, known: &[&str]) -> String {
    let distance = |candidate: &str| strsim::osa_distance(name, candidate);
    match known.iter().min_by_key(|candidate| distance(candidate)) {
        // With up to a third of the letters wrong, it is probably a typing mistake.
        Some(nearest) if distance(nearest) * 3 <= nearest.len() => format!("did you mean {nearest}?"),
        _ => format!("known: {}", known.join(", ")),
    }
}
