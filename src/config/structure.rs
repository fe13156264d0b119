//! Validates the merged values against the schema, and describes in words what does not match.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value};

use super::duration;
use super::error::Report;
use super::origin::{member, segments};
use super::schema;

/// The second pass finds errors in values that the first pass could not check because of another error. The schema is too
/// flat for the third pass to find more.
const PASSES: usize = 3;

/// Reports every value that does not match the schema and removes it, so that the rest can be checked further.
pub(super) fn check(value: &mut Value, schema: &Value, validator: &Validator, report: &mut Report) {
    for _ in 0..PASSES {
        let mut findings: Vec<Finding> =
            validator.iter_errors(value).flat_map(|error| findings(&error, schema)).collect();
        if findings.is_empty() {
            return;
        }
        findings.sort_by_key(|finding| finding.rank);
        for finding in &findings {
            report.structure(&finding.pointer, finding.message.clone());
        }
        for finding in findings {
            report.removed(&finding.prune);
            prune(value, &finding.prune);
        }
    }
}

struct Finding {
    /// Precise findings come first, and [`Report::structure`] then drops a broad finding about the same value.
    rank: u8,
    pointer: String,
    message: String,
    /// The value to remove so that the rest is valid: the value itself, or the map that lacks a key.
    prune: String,
}

fn findings(error: &ValidationError<'_>, schema: &Value) -> Vec<Finding> {
    let pointer = error.instance_path().as_str();
    let instance = error.instance();
    let here = |rank: u8, message: String| {
        vec![Finding { rank, pointer: pointer.to_owned(), message, prune: pointer.to_owned() }]
    };
    let at_member = |key: &str, rank: u8, message: String| {
        let pointer = member(pointer, key);
        Finding { rank, prune: pointer.clone(), pointer, message }
    };
    match error.kind() {
        ValidationErrorKind::Type { kind } => {
            let keys: Vec<String> = segments(pointer).collect();
            here(0, wrong_type(kind, instance, schema::node(schema, &keys)))
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let keys: Vec<String> = segments(pointer).collect();
            let known = schema::node(schema, &keys).map(schema::members).unwrap_or_default();
            let message = |key: &String| format!("unknown key; {}", schema::suggest(key, &known));
            unexpected.iter().map(|key| at_member(key, 0, message(key))).collect()
        }
        ValidationErrorKind::PropertyNames { error } => {
            let name = error.instance().as_str().unwrap_or_default();
            vec![at_member(name, 0, in_words(error))]
        }
        ValidationErrorKind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            vec![Finding { prune: pointer.to_owned(), ..at_member(key, 1, "is missing".to_owned()) }]
        }
        ValidationErrorKind::Pattern { .. } => here(1, in_words(error)),
        ValidationErrorKind::OneOfNotValid { .. } | ValidationErrorKind::OneOfMultipleValid { .. } => {
            let keys: Vec<String> = segments(pointer).collect();
            here(2, one_of(schema::node(schema, &keys)))
        }
        _ => here(0, in_words(error)),
    }
}

/// The message for a finding. It quotes numbers but no text, because a text may be a secret under the wrong key.
fn in_words(error: &ValidationError<'_>) -> String {
    let instance = error.instance();
    match error.kind() {
        ValidationErrorKind::Format { format } => {
            let text = instance.as_str().unwrap_or_default();
            schema::explain(format, text).unwrap_or_else(|| format!("must be a {format}"))
        }
        ValidationErrorKind::Minimum { limit } => format!("must be at least {limit}, not {instance}"),
        ValidationErrorKind::Maximum { limit } => format!("must be at most {limit}, not {instance}"),
        ValidationErrorKind::MinProperties { limit } => format!("must have at least {limit} entry"),
        ValidationErrorKind::MinItems { limit } => format!("must have at least {limit} entry"),
        ValidationErrorKind::Enum { options } => {
            let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
            format!("must be {}", alternatives(options))
        }
        _ => error.masked().to_string(),
    }
}

/// Lists the values of an `enum`. A number is omitted if its text is also accepted: `1.1` is the same value as "1.1".
fn alternatives(options: &[Value]) -> String {
    let has_text = |number: &Value| options.iter().any(|other| other.as_str() == Some(&*number.to_string()));
    let distinct = options.iter().filter(|option| !(option.is_number() && has_text(option)));
    distinct.map(Value::to_string).collect::<Vec<_>>().join(" or ")
}

fn wrong_type(expected: &TypeKind, instance: &Value, schema: Option<&Value>) -> String {
    let is_duration = schema
        .and_then(|schema| schema.get("format"))
        .is_some_and(|format| format == "human-duration" || format == "human-duration-or-zero");
    if is_duration && let Value::Number(number) = instance {
        return duration::parse_or_zero(&number.to_string()).err().unwrap_or_default();
    }
    let expected: Vec<&str> = match expected {
        TypeKind::Single(kind) => vec![name(kind.as_str())],
        TypeKind::Multiple(kinds) => kinds.iter().map(|kind| name(kind.as_str())).collect(),
    };
    let found = match instance {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let hint = match instance {
        Value::Bool(_) | Value::Number(_) if expected.contains(&name("string")) => "; put it in quotes",
        _ => "",
    };
    format!("must be {}, not {}{hint}", expected.join(" or "), name(found))
}

/// The YAML terms for JSON Schema's types.
fn name(kind: &str) -> &str {
    match kind {
        "array" => "a list",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "object" => "a mapping",
        "string" => "a string",
        other => other,
    }
}

/// The alternatives of a `oneOf`, by the keys each requires.
fn one_of(schema: Option<&Value>) -> String {
    let alternatives = schema.and_then(|schema| schema.get("oneOf")).and_then(Value::as_array);
    let alternatives: Vec<String> = alternatives
        .into_iter()
        .flatten()
        .filter_map(|alternative| alternative.get("required")?.as_array())
        .map(|keys| keys.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" with "))
        .collect();
    format!("needs exactly one of {}", alternatives.join(", "))
}

/// Removes the value at `pointer`. For an entry of a list, removes the whole list, because the indices of the other entries
/// must not change.
fn prune(value: &mut Value, pointer: &str) {
    let Some((parent, _)) = pointer.rsplit_once('/') else {
        *value = Value::Object(Map::new());
        return;
    };
    match value.pointer_mut(parent) {
        Some(Value::Object(entries)) => {
            if let Some(key) = segments(pointer).last() {
                entries.shift_remove(&key);
            }
        }
        Some(Value::Array(_)) => prune(value, parent),
        _ => {}
    }
}
