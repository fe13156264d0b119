//! Prints the effective configuration as YAML that can be loaded again, with the origin of each value in a comment.

use std::fmt::Write;

use serde_json::Value;

use super::file;
use super::load::Loaded;
use super::origin::{Origins, member};

impl Loaded {
    /// The effective configuration as YAML, with each value's origin in a comment after it.
    ///
    /// Contains no secret: secrets are only in files that the configuration names, and values of headers are redacted.
    pub fn render(&self) -> String {
        let mut text = String::new();
        write_members(&mut text, &self.effective, "", 0, &self.origins);
        text
    }
}

fn write_members(text: &mut String, map: &Value, pointer: &str, depth: usize, origins: &Origins) {
    for (key, value) in map.as_object().into_iter().flatten() {
        let pointer = member(pointer, key);
        let indent = "  ".repeat(depth);
        let key = scalar(key);
        let is_map = value.as_object().is_some_and(|entries| !entries.is_empty());
        // Writing to a String cannot fail.
        let _ = if is_map {
            writeln!(text, "{indent}{key}:")
        } else {
            writeln!(text, "{indent}{key}: {}  # {}", leaf(value), origins.of(&pointer))
        };
        if is_map {
            write_members(text, value, &pointer, depth + 1, origins);
        }
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        // JSON is YAML.
        other => other.to_string(),
    }
}

/// Writes text without quotes if YAML reads it back as the same text, also as a key, and with JSON's quotes otherwise.
fn scalar(text: &str) -> String {
    let is_same =
        |read: Result<Value, String>| read.is_ok_and(|value| value == Value::String(text.to_owned()));
    let is_plain = !text.contains(['\n', '\r', '#'])
        && text.trim() == text
        && !text.contains(": ")
        && !text.ends_with(':');
    if is_plain && is_same(file::parse(text)) { text.to_owned() } else { Value::from(text).to_string() }
}
