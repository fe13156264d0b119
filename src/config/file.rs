//! The configuration file, and YAML in general: one document, no duplicate keys, bounded in every direction.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Number, Value};
use serde_saphyr::{Spanned, UserMessageFormatter};

use super::located::{Lines, Node};

/// 1 MiB, the most a Kubernetes ConfigMap can hold.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Why the file is not a valid configuration.
pub(super) struct FileError {
    /// The line of the mistake; `None` when it concerns the whole file.
    pub(super) line: Option<u64>,
    pub(super) message: String,
}

/// Reads the file and the line of each value. An empty file, or one with only comments, is an empty configuration.
pub(super) fn read(path: &Path) -> Result<(Value, Lines), FileError> {
    let whole = |message: String| FileError { line: None, message };
    let unreadable = |error: std::io::Error| whole(format!("cannot be read: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    // `take` limits the bytes instead of the file's size, because a pipe (`--config <(…)`) has no size.
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(whole(format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    let node: Spanned<Node> = serde_saphyr::from_str_with_options(&text, options()).map_err(|error| {
        let line = error.location().map(|location| location.line());
        FileError { line, message: error.render_with_formatter(&UserMessageFormatter) }
    })?;
    let mut lines = Lines::new();
    match whole_numbers(node.value.into_value("", &mut lines)) {
        Value::Null => Ok((Value::Object(Map::new()), lines)),
        map @ Value::Object(_) => Ok((map, lines)),
        _ => Err(FileError {
            line: Some(node.referenced.line()),
            message: "must be a mapping of configuration keys".to_owned(),
        }),
    }
}

/// Parses one YAML document.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let value = serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| error.render_with_formatter(&UserMessageFormatter))?;
    Ok(whole_numbers(value))
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        // Enough for any real configuration, but aliases cannot expand to gigabytes.
        budget: serde_saphyr::budget! { max_nodes: 100_000, max_depth: 32, max_documents: 2 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        // In YAML 1.2, `no` and `on` are text. They may be names of registries or users.
        strict_booleans: true,
        // A snippet would print the lines around the error, which may contain a header's secret.
        with_snippet: false,
    }
}

/// Turns `5.0` and `1e3` into integers, which JSON Schema accepts as integers but serde does not.
fn whole_numbers(value: Value) -> Value {
    // Above 2^53, a float cannot represent every integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT => {
                Value::Number(Number::from(float as i64))
            }
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(whole_numbers).collect(),
        Value::Object(entries) => entries.into_iter().map(|(key, item)| (key, whole_numbers(item))).collect(),
        other => other,
    }
}
