//! `docs/configuration.md` is generated from the JSON Schema, and with it from the doc comments of the types.
//!
//! `UPDATE_DOCS=1 cargo test --test config reference` regenerates the page.

use std::{env, fmt::Write as _, fs, path::Path};

use rexd::config::schema;
use serde_json::{Map, Value};

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from the types in src/config. Do not edit: UPDATE_DOCS=1 cargo test --test config reference -->

Without any configuration, `rexd serve` listens on 127.0.0.1:50051 and reads the well-known public registries without
signing in. Everything below is optional.

A value comes from the first of these that sets it:

1. a flag: `--listen`, `--ops-listen`, `--allow-unlisted`;
2. an environment variable;
3. the YAML file that `--config` or `REXD_CONFIG` names;
4. the default.

Maps are merged key by key. Any other value, a list included, is replaced as a whole.

An environment variable is `REXD_` and the key in upper case; `__` separates the levels: `REXD_LISTEN` sets `listen`,
`REXD_LIMITS__MAX_STREAMS` sets `limits.max_streams`, and `REXD_REGISTRIES__GHCR.IO__MAX_CONCURRENT_REQUESTS` sets that key
of the registry `ghcr.io`. A text is used literally; any other value is YAML. An unknown variable that starts with `REXD_`
is an error. `REXD_CONFIG`, `REXD_LOG`, `REXD_SERVER` and `REXD_TOKEN_FILE` belong to the command line.

Three commands help:

- `rexd check-config` reports every error at once, with its file, line and key; `--connect` also pings each registry.
- `rexd print-config` prints the configuration in effect and where each value comes from, without secrets.
- `rexd schema` prints the JSON Schema of the file, for editors and other validators.

Passwords, tokens and keys stay in files of their own: keys that end in `_file` name them. A value in `headers` may be a
secret and is never printed. An unknown key is an error. A duration is a number with a unit: `250ms`, `30s`, `5m`, `1h 30m`.
";

/// The Markdown of the page.
fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    section(&mut page, "", &schema());
    page
}

/// Writes the table of a map's keys, then the sections of the maps in it.
fn section(page: &mut String, path: &str, schema: &Value) {
    let empty = Map::new();
    let keys = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let title = if path.is_empty() { "Top level".to_owned() } else { format!("`{path}`") };
    write!(page, "\n## {title}\n\n").unwrap();
    if let Some(description) = schema.get("description").filter(|_| !path.is_empty()) {
        write!(page, "{}\n\n", text(description)).unwrap();
    }
    if let Some(alternatives) = schema.get("oneOf").and_then(Value::as_array) {
        let names = alternatives.iter().map(|one| {
            let keys = one["required"].as_array().unwrap().iter();
            keys.map(|key| format!("`{}`", key.as_str().unwrap())).collect::<Vec<_>>().join(" with ")
        });
        write!(page, "Needs exactly one of {}.\n\n", names.collect::<Vec<_>>().join(", ")).unwrap();
    }
    page.push_str("| Key | Type | Default | Meaning |\n|---|---|---|---|\n");
    for (key, member) in keys {
        let required = schema["required"].as_array().is_some_and(|keys| keys.iter().any(|name| name == key));
        let default = if required { "required".to_owned() } else { default_of(key, member) };
        let meaning = text(member.get("description").unwrap());
        writeln!(page, "| `{key}` | {} | {default} | {meaning} |", kind(member)).unwrap();
    }
    for (key, member) in keys {
        let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if member.get("properties").is_some() {
            section(page, &at, member);
        } else if let Some(entry) =
            member.get("additionalProperties").filter(|entry| entry.get("properties").is_some())
        {
            section(page, &format!("{at}.NAME"), entry);
        }
    }
}

/// A description as one cell of a table.
fn text(description: &Value) -> String {
    description.as_str().unwrap().replace('\n', " ").replace('|', "\\|")
}

fn default_of(key: &str, schema: &Value) -> String {
    match schema.get("default") {
        // The default is a map, and the section below lists the defaults in it.
        Some(Value::Object(_)) if schema.get("properties").is_some() => "see below".to_owned(),
        Some(Value::Object(entries)) if key == "registries" => {
            let names: Vec<String> = entries.keys().map(|name| format!("`{name}`")).collect();
            names.join(", ")
        }
        None | Some(Value::Null) => "–".to_owned(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(other) => format!("`{other}`"),
    }
}

/// The type in words: that of the format if there is one, or else the JSON type.
fn kind(schema: &Value) -> String {
    if let Some(options) = schema.get("enum").and_then(Value::as_array) {
        let texts = options.iter().filter(|option| !option.is_number());
        return texts.map(|option| format!("`{option}`")).collect::<Vec<_>>().join(" or ");
    }
    let kinds: Vec<&str> = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let words = kinds.into_iter().map(|name| match name {
        "string" => match schema.get("format").and_then(Value::as_str) {
            Some("file") => "path".to_owned(),
            Some("human-duration" | "human-duration-or-zero") => "duration".to_owned(),
            Some("registry-name") => "registry name".to_owned(),
            Some("registry-url") => "URL".to_owned(),
            Some("socket-address") => "address:port".to_owned(),
            Some("web-origin") => "scheme://host:port".to_owned(),
            _ => "text".to_owned(),
        },
        "integer" => match (schema.get("minimum"), schema.get("maximum")) {
            (Some(least), Some(most)) => format!("whole number, {least} to {most}"),
            _ => "whole number".to_owned(),
        },
        "boolean" => "true or false".to_owned(),
        "array" => format!("list of {}s", schema.get("items").map(kind).unwrap_or_default()),
        "object" => "map".to_owned(),
        other => other.to_owned(),
    });
    words.collect::<Vec<_>>().join(" or ")
}

#[test]
fn the_configuration_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = page();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &page).unwrap();
    }
    let current = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        current == page,
        "docs/configuration.md is outdated; UPDATE_DOCS=1 cargo test --test config reference regenerates it"
    );
}
