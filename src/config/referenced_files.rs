//! Checks that the files named in the configuration can be read.
//!
//! The schema marks their keys with the format `file`. The check walks the merged values, not the typed configuration:
//! a section that lacks a key cannot be converted to its type, but its files are checked too.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::error::Report;
use super::origin::member;

/// Reports every file below `value` that cannot be read.
pub(super) fn check(value: &Value, schema: &Value, pointer: &str, report: &mut Report) {
    match value {
        Value::String(path) if schema.get("format").is_some_and(|format| format == "file") => {
            // The file's content is checked where it is used, because the file may be replaced at any time.
            if let Err(reason) = readable(Path::new(path)) {
                report.single(pointer, format!("{path} {reason}"));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if let Some(schema) = schema.get("items") {
                    check(item, schema, &member(pointer, &index.to_string()), report);
                }
            }
        }
        Value::Object(entries) => {
            for (key, entry) in entries {
                let named = schema.get("properties").and_then(|properties| properties.get(key));
                if let Some(schema) = named.or_else(|| schema.get("additionalProperties")) {
                    check(entry, schema, &member(pointer, key), report);
                }
            }
        }
        _ => {}
    }
}

fn readable(file: &Path) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    // Checked before opening, because opening a pipe waits for its other end.
    if !fs::metadata(file).map_err(cannot)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    fs::File::open(file).map(drop).map_err(cannot)
}
