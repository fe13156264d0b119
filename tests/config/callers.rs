//! `callers`: the three kinds of identity, and mistakes that must not admit anyone.

use std::{
    collections::BTreeSet,
    num::{NonZeroU32, NonZeroU64},
};

use rexd::config::{Caller, CallerIdentity, CallerLimits};
use rstest::rstest;

use super::Setup;

#[test]
fn without_callers_there_is_no_list_of_callers() {
    assert_eq!(Setup::new().config().callers, None);
}

#[test]
fn a_caller_has_a_token_a_certificate_or_is_anonymous() {
    let setup = Setup::new();
    for file in ["token", "tls.crt", "tls.key", "ca.crt"] {
        setup.write(file, "content");
    }
    let setup = setup.at_directory(
        "
tls: {cert_file: DIR/tls.crt, key_file: DIR/tls.key, client_ca_file: DIR/ca.crt}
callers:
  build: {token_file: DIR/token, allow: [ghcr.io/org/, docker.io/nginx]}
  deploy: {certificate_names: [deploy.internal, \"spiffe://cluster.local/ns/cd/sa/deploy\"], allow: [\"*\"]}
  everybody: {anonymous: true, allow: [quay.io]}
",
    );
    let callers = setup.config().callers.unwrap();
    let names = ["deploy.internal", "spiffe://cluster.local/ns/cd/sa/deploy"].map(str::to_owned);
    let expected = [
        (
            "build",
            CallerIdentity::TokenFile(setup.directory.path().join("token")),
            vec!["ghcr.io/org/", "docker.io/nginx"],
        ),
        ("deploy", CallerIdentity::CertificateNames(BTreeSet::from(names)), vec!["*"]),
        ("everybody", CallerIdentity::Anonymous, vec!["quay.io"]),
    ];
    let expected = expected.map(|(name, identity, allow)| {
        let allow = allow.into_iter().map(str::to_owned).collect();
        (name.to_owned(), Caller { identity, allow, limits: CallerLimits::default() })
    });
    assert_eq!(callers.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_caller_can_have_limits() {
    let setup = Setup::new().file(
        "callers: {a: {anonymous: true, allow: [ghcr.io], limits: {max_streams: 4, max_calls: 20, requests_per_second: 50, bytes_per_second: 10485760}}}",
    );
    let limits = CallerLimits {
        max_streams: NonZeroU32::new(4),
        max_calls: NonZeroU32::new(20),
        requests_per_second: NonZeroU32::new(50),
        bytes_per_second: NonZeroU64::new(10 << 20),
    };
    assert_eq!(setup.config().callers.unwrap().remove("a").unwrap().limits, limits);
}

#[test]
fn limits_that_are_set_are_printed_with_their_origin() {
    let setup = Setup::new()
        .file("callers: {a: {anonymous: true, allow: [ghcr.io], limits: {max_calls: 20}}}")
        .env("REXD_CALLERS__A__LIMITS__BYTES_PER_SECOND", "1048576");
    let printed =
        setup.load().unwrap().render().replace(&format!("{}/", setup.directory.path().display()), "");
    let lines = [
        "    limits:",
        "      max_calls: 20  # config.yaml",
        "      bytes_per_second: 1048576  # environment variable REXD_CALLERS__A__LIMITS__BYTES_PER_SECOND",
    ];
    assert!(printed.contains(&lines.join("\n")), "{printed}");
    assert!(!printed.contains("requests_per_second"), "{printed}");
}

#[rstest]
// A missing value admits nobody and grants nothing.
#[case("{}", "callers: must have at least 1 entry")]
#[case("null", "callers: must be a mapping, not null")]
#[case("{a: {allow: [ghcr.io]}}", "callers.a: needs exactly one of token_file, certificate_names, anonymous")]
#[case("{a: {anonymous: true}}", "callers.a.allow: is missing")]
#[case("{a: {anonymous: true, allow: []}}", "callers.a.allow: must have at least 1 entry")]
#[case("{a: null}", "callers.a: must be a mapping, not null")]
#[case("{a: {anonymous: false, allow: [ghcr.io]}}", "callers.a.anonymous: must be true")]
#[case("{a: {token_file: null, allow: [ghcr.io]}}", "callers.a.token_file: must be a string, not null")]
#[case(
    "{a: {certificate_names: [], allow: [ghcr.io]}}",
    "callers.a.certificate_names: must have at least 1 entry"
)]
#[case(
    "{a: {anonymous: true, token_file: /t, allow: [ghcr.io]}}",
    "callers.a: needs exactly one of token_file, certificate_names, anonymous"
)]
#[case(
    "{a: {certificate_names: [\"*.internal\"], allow: [ghcr.io]}}",
    "callers.a.certificate_names.0: must be a DNS name "
)]
#[case(
    "{a: {certificate_names: [\"CN=x\"], allow: [ghcr.io]}}",
    "callers.a.certificate_names.0: must be a DNS name "
)]
#[case("{a: {anonymous: true, token: secret, allow: [ghcr.io]}}", "callers.a.token: unknown key; ")]
#[case("{A b: {anonymous: true, allow: [ghcr.io]}}", "callers.\"A b\": must be a name of 1 to 63 characters")]
#[case("{a: {anonymous: true, allow: [ghcr.io/]}}", "callers.a.allow.0: must be a registry, ")]
#[case("{a: {anonymous: true, allow: [\"ghcr.io/*\"]}}", "callers.a.allow.0: must be a registry, ")]
#[case("{a: {anonymous: true, allow: [ghcr.oi/org/]}}", "callers.a.allow: ghcr.oi is not in registries, ")]
#[case(
    "{a: {anonymous: true, allow: [ghcr.io]}, b: {anonymous: true, allow: [ghcr.io]}}",
    "callers.b.anonymous: a is already the anonymous caller"
)]
#[case(
    "{a: {token_file: /nonexistent, allow: [ghcr.io]}}",
    "callers.a.token_file: /nonexistent cannot be read: "
)]
#[case(
    "{a: {certificate_names: [x], allow: [ghcr.io]}}",
    "callers.a.certificate_names: needs tls.client_ca_file too"
)]
// No limit is lost by a mistake.
#[case(
    "{a: {anonymous: true, allow: [ghcr.io], limits: {max_streams: 0}}}",
    "callers.a.limits.max_streams: must be at least 1, not 0"
)]
#[case(
    "{a: {anonymous: true, allow: [ghcr.io], limits: {max_calls: 0}}}",
    "callers.a.limits.max_calls: must be at least 1, not 0"
)]
#[case(
    "{a: {anonymous: true, allow: [ghcr.io], limits: {requests_per_second: 0}}}",
    "callers.a.limits.requests_per_second: must be at least 1, not 0"
)]
#[case(
    "{a: {anonymous: true, allow: [ghcr.io], limits: {bytes_per_second: 0}}}",
    "callers.a.limits.bytes_per_second: must be at least 1024, not 0"
)]
#[case(
    "{a: {anonymous: true, allow: [ghcr.io], limits: {bytes_per_second: 10MiB}}}",
    "callers.a.limits.bytes_per_second: must be a whole number, not a string"
)]
#[case(
    "{a: {anonymous: true, allow: [ghcr.io], limits: {requests_per_second: 0.5}}}",
    "callers.a.limits.requests_per_second: must be a whole number, not a number"
)]
#[case(
    "{a: {anonymous: true, allow: [ghcr.io], limits: {max_calls: null}}}",
    "callers.a.limits.max_calls: must be a whole number, not null"
)]
#[case(
    "{a: {anonymous: true, allow: [ghcr.io], limits: null}}",
    "callers.a.limits: must be a mapping, not null"
)]
#[case(
    "{a: {anonymous: true, allow: [ghcr.io], limits: {max_call: 5}}}",
    "callers.a.limits.max_call: unknown key; did you mean max_calls?"
)]
fn a_mistake_is_an_error_and_admits_nobody(#[case] callers: &str, #[case] expected: &str) {
    let errors = Setup::new().file(&format!("callers: {callers}")).errors();
    assert!(
        errors.starts_with(&format!("config.yaml:1: {expected}")) && errors.lines().count() == 1,
        "{errors}"
    );
}

#[test]
fn docker_hub_can_be_granted_by_any_of_its_names() {
    let setup = Setup::new().file(
        "{registries: {index.docker.io: {}}, default_registry: docker.io, callers: {a: {anonymous: true, allow: [docker.io]}}}",
    );
    assert_eq!(setup.config().callers.unwrap().len(), 1);
}

#[test]
fn an_unlisted_registry_can_be_granted_where_unlisted_ones_are_allowed() {
    let setup = Setup::new()
        .file("{allow_unlisted: true, callers: {a: {anonymous: true, allow: [registry.example.com/org/]}}}");
    assert_eq!(setup.config().callers.unwrap().len(), 1);
}

#[test]
fn the_environment_can_name_a_file() {
    let setup = Setup::new();
    let token = setup.write("token", "content");
    let setup = setup
        .env("REXD_CALLERS__BUILD__TOKEN_FILE", token.to_str().unwrap())
        .env("REXD_CALLERS__BUILD__ALLOW", "[ghcr.io]");
    let caller = setup.config().callers.unwrap().remove("build").unwrap();
    assert_eq!(caller.identity, CallerIdentity::TokenFile(token));
}
