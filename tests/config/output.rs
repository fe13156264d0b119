//! The effective configuration and the schema, as the program prints them.

use rexd::config::{Config, schema};
use rstest::rstest;

use super::Setup;

#[test]
fn values_of_headers_are_never_printed() {
    let setup = Setup::new().file("registries: {docker.io: {headers: {X-Key: hunter2}}}");
    let loaded = setup.load().unwrap();
    let rendered = loaded.render();
    assert!(rendered.contains("X-Key: \"[redacted]\"  # "), "{rendered}");
    assert!(!rendered.contains("hunter2"), "{rendered}");
    assert!(!format!("{loaded:?}").contains("hunter2"));
}

#[test]
fn the_rendered_configuration_names_origins_and_loads_to_the_same() {
    let setup = Setup::new();
    setup.write("t", "");
    let setup = setup
        .at_directory(
            "
listen: '[::]:50051'
default_registry: a.example:5000
registries: {a.example:5000: {http: '1.1', trusted_origins: ['http://m:1'], credentials: {token_file: DIR/t}}}",
        )
        .env("REXD_LIMITS__MAX_STREAMS", "5");
    let loaded = setup.load().unwrap();
    let rendered = loaded.render();
    let file = setup.directory.path().join("config.yaml");
    for line in [
        format!("listen: \"[::]:50051\"  # {}", file.display()),
        "ops_listen: 127.0.0.1:9090  # default".to_owned(),
        "  max_streams: 5  # environment variable REXD_LIMITS__MAX_STREAMS".to_owned(),
        "  drain_pause: 2s  # default".to_owned(),
        "  a.example:5000:".to_owned(),
        format!("    http: \"1.1\"  # {}", file.display()),
        format!("    trusted_origins: [\"http://m:1\"]  # {}", file.display()),
    ] {
        assert!(rendered.lines().any(|rendered| rendered == line), "no line {line:?} in:\n{rendered}");
    }
    assert_eq!(Setup::new().file(&rendered).config(), loaded.config);
}

#[rstest]
#[case("{\"lissen\": \"127.0.0.1:1\"}")]
#[case("{\"limits\": {\"max_streams\": 0}}")]
#[case("{\"limits\": {\"drain_grace\": 5}}")]
#[case("{\"limits\": {\"drain_grace\": \"soon\"}}")]
#[case("{\"tls\": {\"cert_file\": \"/c\"}}")]
#[case("{\"registries\": {\"docker.io\": {\"url\": \"ftp://docker.io\"}}}")]
#[case("{\"registries\": {\"docker.io\": {\"http\": \"2\"}}}")]
#[case("{\"registries\": {\"docker.io\": {\"token_realms\": [\"https://a/b\"]}}}")]
#[case("{\"registries\": {\"docker.io\": {\"credentials\": {\"username\": \"me\"}}}}")]
#[case("{\"registries\": {\"docker.io\": {\"credentials\": null}}}")]
fn the_published_schema_alone_rejects_what_loading_rejects(#[case] json: &str) {
    // Other validators treat formats as annotations, so this one does too.
    let validator = jsonschema::options().should_validate_formats(false).build(&schema()).unwrap();
    assert!(!validator.is_valid(&serde_json::from_str(json).unwrap()), "the schema accepts {json}");
    assert!(Setup::new().file(json).load().is_err(), "loading accepts {json}");
}

#[test]
fn the_schema_describes_every_key_and_accepts_the_defaults() {
    fn undescribed(schema: &serde_json::Value, at: &str, found: &mut Vec<String>) {
        for (key, member) in schema.get("properties").and_then(|p| p.as_object()).into_iter().flatten() {
            let at = format!("{at}.{key}");
            if member.get("description").is_none() {
                found.push(at.clone());
            }
            undescribed(member, &at, found);
            if let Some(entry) = member.get("additionalProperties") {
                undescribed(entry, &at, found);
            }
        }
    }
    let schema = schema();
    let mut found = Vec::new();
    undescribed(&schema, "", &mut found);
    assert_eq!(found, Vec::<String>::new());
    assert!(!schema.to_string().contains("$ref"), "a schema to embed has no references");
    let defaults = serde_json::to_value(Config::default()).unwrap();
    assert!(jsonschema::is_valid(&schema, &defaults));
}
