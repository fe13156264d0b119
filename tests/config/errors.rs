//! Errors name the key, its origin, and a value that would be right.

use rexd::config::Flags;
use rstest::rstest;

use super::Setup;

#[rstest]
#[case("REXD_LISTN", "", "environment variable REXD_LISTN: is not known; did you mean REXD_LISTEN?")]
#[case("REXD_MAX_STREAMS", "5", "environment variable REXD_MAX_STREAMS: is not known; known: REXD_LISTEN, ")]
#[case("REXD_PORT", "50051", "environment variable REXD_PORT: is not known; known: ")]
#[case(
    "REXD_PORT_50051_TCP_NAME",
    "x",
    "environment variable REXD_PORT_50051_TCP_NAME: is not known; known: "
)]
#[case(
    "REXD_LIMITS__MAX_STREEMS",
    "5",
    "environment variable REXD_LIMITS__MAX_STREEMS: limits.max_streems: unknown key; did you mean max_streams?"
)]
#[case(
    "REXD_LIMITS__MAX_STREAMS",
    "many",
    "environment variable REXD_LIMITS__MAX_STREAMS: limits.max_streams: must be a whole number, not a string"
)]
#[case(
    "REXD_LISTEN__PORT",
    "1",
    "environment variable REXD_LISTEN__PORT: listen: must be a string, not a mapping"
)]
#[case("REXD_LIMITS", "{max_pages", "environment variable REXD_LIMITS: ")]
fn a_wrong_variable_is_named(#[case] name: &str, #[case] value: &str, #[case] expected: &str) {
    let errors = Setup::new().env(name, value).errors();
    assert!(errors.starts_with(expected) && errors.lines().count() == 1, "{errors}");
}

#[test]
fn two_names_of_one_registry_are_an_error() {
    let errors = Setup::new().file("registries: {docker.io: {}, ghcr.io: {}, index.docker.io: {}}").errors();
    assert_eq!(
        errors.trim_end(),
        "config.yaml:1: registries.\"index.docker.io\": is the same registry as docker.io"
    );
    let errors = Setup::new().file("registries: {docker.io: {}, ghcr.io: {}, 'ghcr.io:443': {}}").errors();
    assert_eq!(
        errors.trim_end(),
        "config.yaml:1: registries.\"ghcr.io:443\": is the same registry as ghcr.io"
    );
}

#[test]
fn every_error_is_reported_at_once_with_origin_and_key() {
    let setup = Setup::new()
        .file(
            "
listen: localhost:50051
lissen: 127.0.0.1:1
default_registry: quay.io
tls: {cert_file: /nonexistent/cert}
limits:
  max_streams: 0
  idle: 5s
  drain_grace: soon
registries:
  Docker.io: {}
  ghcr.io:
    url: ftp://ghcr.io
    proxy: http://me:hunter2@proxy:3128
    client_cert_file: /nonexistent/cert
    connect_timeout: 5
    http: 2
    headers: {Authorization: hunter2, X-Bad: \"a\\nb\"}
    credentials: {username: me, token_file: /nonexistent/token}
    token_realms: [https://auth.internal/token]
",
        )
        .env("REXD_LIMITS__MAX_PAGES", "-1")
        .env("REXD_UNKNOWN_THING", "1")
        .flags(Flags { ops_listen: Some("9090".to_owned()), ..Flags::default() });
    let errors = setup.errors();
    let address = "must be an IP address and a port, such as 127.0.0.1:50051 or [::]:50051";
    for expected in [
        "environment variable REXD_UNKNOWN_THING: is not known; known: ",
        &format!("config.yaml:2: listen: {address}"),
        &format!("flag --ops-listen: ops_listen: {address}"),
        "config.yaml:3: lissen: unknown key; did you mean listen?",
        "config.yaml:5: tls.key_file: is missing",
        "config.yaml:7: limits.max_streams: must be at least 1, not 0",
        "environment variable REXD_LIMITS__MAX_PAGES: limits.max_pages: must be at least 1, not -1",
        "config.yaml:8: limits.idle: unknown key; known: manifest_bytes, ",
        "config.yaml:9: limits.drain_grace: must be a duration with a unit, such as 30s or 5m (",
        "config.yaml:11: registries.\"Docker.io\": must be a registry name: host or host:port, lower-case",
        "config.yaml:13: registries.\"ghcr.io\".url: must start with http:// or https://",
        "config.yaml:14: registries.\"ghcr.io\".proxy: must not hold a user name or password",
        "config.yaml:16: registries.\"ghcr.io\".connect_timeout: must be a duration with a unit: write 5s for 5 seconds",
        "config.yaml:17: registries.\"ghcr.io\".http: must be \"auto\" or \"1.1\"",
        "config.yaml:18: registries.\"ghcr.io\".headers.Authorization: is set by the client itself",
        "config.yaml:18: registries.\"ghcr.io\".headers.X-Bad: must be visible ASCII",
        "config.yaml:19: registries.\"ghcr.io\".credentials: needs exactly one of docker_config, username with \
         password_file, token_file",
        "config.yaml:20: registries.\"ghcr.io\".token_realms.0: must be scheme, host and port only",
        "config.yaml:5: tls.cert_file: /nonexistent/cert cannot be read: ",
        // Checks that a schema cannot express report their errors in the same run.
        "config.yaml:15: registries.\"ghcr.io\".client_cert_file: needs client_key_file too",
        "config.yaml:15: registries.\"ghcr.io\".client_cert_file: /nonexistent/cert cannot be read: ",
        "config.yaml:4: default_registry: quay.io is not in registries, and allow_unlisted is false",
    ] {
        assert!(errors.lines().any(|line| line.starts_with(expected)), "no line {expected:?} in:\n{errors}");
    }
    assert_eq!(errors.lines().count(), 22, "one line for each error, and no error twice:\n{errors}");
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[rstest]
#[case::default_unlisted(
    "default_registry: ghcr.io\nregistries: {docker.io: {}}",
    "default_registry: ghcr.io is not in"
)]
#[case::no_registry("registries: {}", "registries: is empty, and allow_unlisted is false")]
#[case::same_address("ops_listen: 127.0.0.1:50051", "ops_listen: must not be the address of listen")]
#[case::filter(
    "log: {filter: 'rexd=loud'}",
    "log.filter: must be a filter, such as info or info,rexd=debug ("
)]
#[case::budget_alone(
    "registries: {docker.io: {fleet: {requests_per_second: 5}}}",
    "fleet: needs cache.shared too"
)]
#[case::engine_user_alone(
    "cache: {shared: {url: 'redis://valkey', username: rexd}}",
    "username: needs password_file too"
)]
#[case::engine_ca_without_tls(
    "cache: {shared: {url: 'redis://valkey', ca_file: DIR/present}}",
    "ca_file: needs a url that begins with rediss"
)]
#[case::key_alone(
    "registries: {docker.io: {client_key_file: DIR/present}}",
    "client_key_file: needs client_cert_file too"
)]
#[case::password_alone(
    "registries: {docker.io: {proxy: 'http://p', proxy_password_file: DIR/present}}",
    "needs proxy_username too"
)]
#[case::user_without_proxy(
    "registries: {docker.io: {proxy_username: me}}",
    "proxy_username: needs proxy too"
)]
#[case::header_twice(
    "registries: {docker.io: {headers: {X-A: a, x-a: b}}}",
    "headers.x-a: is the same header as X-A"
)]
#[case::page_parameter_of_mirrors(
    "registries: {docker.io: {page_parameters: [from, NS]}}",
    "page_parameters: must not have ns"
)]
#[case::page_parameter_that_is_no_name(
    "registries: {docker.io: {page_parameters: [a, 'n&ns']}}",
    "registries.\"docker.io\".page_parameters.1: "
)]
#[case::no_such_file(
    "docker_configs: [/nonexistent/a]",
    "docker_configs.0: /nonexistent/a cannot be read: No such file"
)]
#[case::directory("docker_configs: [/]", "docker_configs.0: / is not a regular file")]
#[case::token_file(
    "registries: {docker.io: {credentials: {token_file: /nonexistent/t}}}",
    "credentials.token_file: /nonexistent/t"
)]
#[case::typo_in_credentials(
    "registries: {docker.io: {credentials: {username: me, pasword_file: /x}}}",
    "credentials.pasword_file: unknown key; did you mean password_file?"
)]
#[case::two_kinds(
    "registries: {docker.io: {credentials: {docker_config: /x, username: me}}}",
    "credentials: needs exactly one of"
)]
#[case::empty_list(
    "registries: {docker.io: {credentials: {docker_config: []}}}",
    "docker_config: must have at least 1 entry"
)]
#[case::endless_wait("limits: {drain_grace: 0s}", "limits.drain_grace: must be longer than zero")]
#[case::overflowing_wait("limits: {drain_grace: 500000years}", "limits.drain_grace: must be ")]
#[case::not_yaml("listen: [", "config.yaml:1: ")]
#[case::duplicate_key("allow_unlisted: true\nallow_unlisted: false", "duplicate")]
#[case::yaml_1_1_boolean("allow_unlisted: yes", "allow_unlisted: must be true or false, not a string")]
#[case::two_documents("allow_unlisted: true\n---\nallow_unlisted: true", "only single YAML document")]
#[case::not_a_mapping("- listen", "config.yaml:1: must be a mapping of configuration keys")]
#[case::null_section("limits:", "limits: must be a mapping, not null")]
fn a_wrong_file_is_refused_with_one_error(#[case] yaml: &str, #[case] expected: &str) {
    let setup = Setup::new();
    setup.write("present", "");
    let errors = setup.at_directory(yaml).errors();
    assert!(errors.starts_with("config.yaml:") && errors.contains(expected), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn a_missing_file_is_an_error_and_the_other_sources_are_still_checked() {
    let mut setup = Setup::new()
        .env("REXD_LIMITS__MAX_STREAMS", "0")
        .env("REXD_DEFAULT_REGISTRY", "registry.the-file-lists.example");
    setup.sources.file = Some(setup.directory.path().join("absent.yaml"));
    let errors = setup.errors();
    assert!(errors.contains("absent.yaml: cannot be read: No such file"), "{errors}");
    assert!(errors.contains("limits.max_streams: must be at least 1, not 0"), "{errors}");
    assert_eq!(errors.lines().count(), 2, "no error about keys that the file would have set: {errors}");
}

#[test]
fn every_error_about_a_value_of_the_file_has_the_line_of_its_key() {
    let setup = Setup::new()
        .file(
            "# a comment
limits:
  drain_grace: soon
registries:
  ghcr.io:
    client_cert_file: /nonexistent/cert
    credentials:
      username: me
docker_configs:
  - /nonexistent/a
  - /nonexistent/b
listen: 127.0.0.1:1
ops_listen: 127.0.0.1:1
",
        )
        .env("REXD_LIMITS__MAX_PAGES", "0");
    let errors = setup.errors();
    for expected in [
        "config.yaml:3: limits.drain_grace: ",
        "config.yaml:6: registries.\"ghcr.io\".client_cert_file: /nonexistent/cert cannot be read",
        "config.yaml:6: registries.\"ghcr.io\".client_cert_file: needs client_key_file too",
        "config.yaml:7: registries.\"ghcr.io\".credentials: needs exactly one of",
        "config.yaml:10: docker_configs.0: ",
        "config.yaml:11: docker_configs.1: ",
        "config.yaml:13: ops_listen: must not be the address of listen",
        "environment variable REXD_LIMITS__MAX_PAGES: limits.max_pages: ",
    ] {
        assert!(errors.lines().any(|line| line.starts_with(expected)), "no line {expected:?} in:\n{errors}");
    }
    assert_eq!(errors.lines().count(), 8, "{errors}");
}

#[rstest]
#[case("30")]
#[case("\"30\"")]
fn an_error_about_a_duration_without_a_unit_suggests_one(#[case] value: &str) {
    let errors = Setup::new().file(&format!("registries: {{ghcr.io: {{idle_timeout: {value}}}}}")).errors();
    let expected = "idle_timeout: must be a duration with a unit: write 30s for 30 seconds";
    assert!(errors.ends_with(expected), "{errors}");
}
