//! Input that no operator would write. It is refused within bounds, and the error names the key.

use rexd::config::{ConfigError, Origin, schema};
use serde_json::Value;

use super::Setup;

#[test]
fn an_unusual_value_of_any_key_is_accepted_or_refused_with_that_key() {
    fn keys(schema: &Value, at: &str, found: &mut Vec<String>) {
        for (key, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            found.push(format!("{at}/{key}"));
            keys(member, &format!("{at}/{key}"), found);
            if let Some(entry) = member.get("additionalProperties").filter(|entry| entry.is_object()) {
                found.push(format!("{at}/{key}/a.example"));
                keys(entry, &format!("{at}/{key}/a.example"), found);
            }
        }
    }
    let mut found = Vec::new();
    keys(&schema(), "", &mut found);
    assert!(found.len() > 40, "{found:?}");
    for key in found {
        for unusual in [
            "null",
            "true",
            "0",
            "-1",
            "3.0",
            "0.5",
            "1e300",
            "\"\"",
            "\"\\u0000\"",
            "[]",
            "[[]]",
            "{}",
            "{\"\": 1}",
        ] {
            let segments: Vec<&str> = key.split('/').skip(1).collect();
            let yaml = segments
                .iter()
                .rev()
                .fold(unusual.to_owned(), |value, key| format!("{{\"{key}\": {value}}}"));
            let Err(errors) = Setup::new().file(&yaml).load() else {
                continue;
            };
            let first = segments.first().copied().unwrap_or_default();
            let blamed = |error: &ConfigError| {
                let about_listing = first == "registries" && error.key == "default_registry";
                matches!(error.origin, Origin::File(_)) && (error.key.starts_with(first) || about_listing)
            };
            assert!(errors.iter().all(blamed), "{yaml}: {errors}");
        }
    }
}

#[test]
fn a_file_larger_than_a_config_map_is_refused() {
    let errors = Setup::new().file(&"# filler\n".repeat(200_000)).errors();
    assert_eq!(errors, "config.yaml: is larger than 1048576 bytes");
}

#[test]
fn a_variable_that_nests_without_end_is_refused() {
    let errors = Setup::new().env(&format!("REXD_LIMITS{}", "__A".repeat(40_000)), "1").errors();
    assert!(errors.ends_with("names a key of more than 8 levels; no key has so many"), "{errors}");
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..9 {
        let list = vec![format!("*a{}", n - 1); 10].join(", ");
        yaml.push_str(&format!("a{n}: &a{n} [{list}]\n"));
    }
    let errors = Setup::new().file(&yaml).errors();
    assert_eq!(errors.lines().count(), 1, "{errors}");
}
