//! How file, environment and flags become the configuration.

use std::time::Duration;

use rexd::config::{Config, Credentials, Flags, HttpVersion, Loaded, Origin};
use rstest::rstest;

use super::Setup;

#[test]
fn no_configuration_at_all_is_valid() {
    let loaded = Setup::new().load().unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.config.listen.to_string(), "127.0.0.1:50051");
    assert_eq!(
        loaded.config.registries.keys().collect::<Vec<_>>(),
        [
            "docker.io",
            "gcr.io",
            "ghcr.io",
            "mcr.microsoft.com",
            "public.ecr.aws",
            "quay.io",
            "registry.k8s.io"
        ]
    );
    assert_eq!(loaded.origins.of("/listen"), &Origin::Default);
}

#[rstest]
#[case("")]
#[case("# nothing yet\n")]
#[case("{}")]
fn an_empty_file_gives_the_defaults(#[case] yaml: &str) {
    assert_eq!(Setup::new().file(yaml).config(), Config::default());
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let setup = Setup::new()
        .file("listen: 127.0.0.1:1\nops_listen: 127.0.0.1:2\nlimits: {max_pages: 3, max_streams: 4}")
        .env("REXD_LISTEN", "127.0.0.1:11")
        .env("REXD_LIMITS__MAX_STREAMS", "14")
        .flags(Flags { listen: Some("127.0.0.1:21".to_owned()), ..Flags::default() });
    let Loaded { config, origins, .. } = setup.load().unwrap();
    assert_eq!(config.listen.port(), 21);
    assert_eq!(config.ops_listen.unwrap().port(), 2);
    assert_eq!((config.limits.max_pages, config.limits.max_streams), (3, 14));
    assert_eq!(config.limits.drain_pause, Duration::from_secs(2));

    assert_eq!(origins.of("/listen"), &Origin::Flag("--listen"));
    assert_eq!(origins.of("/ops_listen"), &Origin::File(setup.directory.path().join("config.yaml")));
    assert_eq!(
        origins.of("/limits/max_streams"),
        &Origin::Environment("REXD_LIMITS__MAX_STREAMS".to_owned())
    );
    assert_eq!(origins.of("/limits/drain_pause"), &Origin::Default);
}

#[test]
fn every_key_is_read() {
    let setup = Setup::new();
    for name in ["ca", "cert", "key", "password", "docker.json"] {
        setup.write(name, "");
    }
    let config = setup
        .at_directory(
            "
tls: {cert_file: DIR/cert, key_file: DIR/key, client_ca_file: DIR/ca}
docker_configs: [DIR/docker.json]
default_registry: registry.internal:5000
registries:
  registry.internal:5000:
    url: http://registry.internal:8080/proxy/
    ca_file: DIR/ca
    client_cert_file: DIR/cert
    client_key_file: DIR/key
    proxy: http://proxy:3128
    proxy_username: me
    proxy_password_file: DIR/password
    http: 1.1
    headers: {X-Team: platform}
    connect_timeout: 1s
    header_timeout: 1m 30s
    idle_timeout: 250ms
    credentials: {username: robot, password_file: DIR/password}
    token_realms: [https://auth.internal]
    trusted_origins: ['https://minio.internal:9000/']
    max_concurrent_requests: 2
    max_concurrent_blobs: 3
",
        )
        .config();
    let registry = config.registries.get("registry.internal:5000").unwrap();
    assert_eq!(registry.url.as_ref().unwrap().as_url().as_str(), "http://registry.internal:8080/proxy");
    assert_eq!(registry.http, HttpVersion::Http11);
    assert_eq!((registry.max_concurrent_requests, registry.max_concurrent_blobs), (2, 3));
    assert_eq!(registry.header_timeout, Duration::from_secs(90));
    assert_eq!(registry.headers.get("X-Team").unwrap().expose(), "platform");
    assert!(registry.headers.get("X-Team").unwrap().expose().is_sensitive());
    assert_eq!(registry.proxy.as_ref().unwrap().to_string(), "http://proxy:3128");
    assert!(
        matches!(&registry.credentials, Some(Credentials::Password { username, .. }) if username == "robot")
    );
    let trusted = url::Url::parse("https://minio.internal:9000/bucket").unwrap().origin();
    assert_eq!(registry.trusted_origins.first().unwrap().as_origin(), &trusted);
    assert!(config.tls.unwrap().client_ca_file.is_some());
}

#[test]
fn a_docker_config_is_one_file_or_a_list_of_files() {
    let setup = Setup::new();
    let (a, b) = (setup.write("a", "{}"), setup.write("b", "{}"));
    let config = setup
        .at_directory(
            "
default_registry: one.example
registries:
  one.example: {credentials: {docker_config: DIR/a}}
  two.example: {credentials: {docker_config: [DIR/a, DIR/b]}}
",
        )
        .config();
    let credentials = |name: &str| config.registries.get(name).unwrap().credentials.clone();
    assert_eq!(credentials("one.example"), Some(Credentials::DockerConfig(vec![a.clone()])));
    assert_eq!(credentials("two.example"), Some(Credentials::DockerConfig(vec![a, b])));
}

#[test]
fn a_registry_without_keys_is_anonymous() {
    let config = Setup::new().file("registries: {docker.io: , ghcr.io: {}}").config();
    assert_eq!(config.registries.len(), 2);
    assert_eq!(config.registries.get("docker.io"), config.registries.get("ghcr.io"));
}

#[test]
fn a_value_that_is_replaced_leaves_no_origin_behind() {
    let Loaded { config, origins, .. } = Setup::new()
        .file("registries: {docker.io: {http: '1.1'}}")
        .env("REXD_REGISTRIES__DOCKER.IO", "null")
        .load()
        .unwrap();
    assert_eq!(config.registries.get("docker.io").unwrap().http, HttpVersion::Auto);
    assert_eq!(origins.of("/registries/docker.io/http"), &Origin::Default);
}

#[test]
fn null_turns_the_ops_listener_off_in_every_source() {
    assert_eq!(Setup::new().file("ops_listen: null").config().ops_listen, None);
    assert_eq!(Setup::new().env("REXD_OPS_LISTEN", "").config().ops_listen, None);
    let flags = Flags { ops_listen: Some("null".to_owned()), ..Flags::default() };
    assert_eq!(Setup::new().flags(flags).config().ops_listen, None);
}

#[test]
fn variables_of_text_keys_are_literal_and_others_are_yaml() {
    let config = Setup::new()
        .env("REXD_LISTEN", "[::]:50051")
        .env("REXD_ALLOW_UNLISTED", "true")
        // The more specific variable wins, whatever the order of the environment.
        .env("REXD_LIMITS__MAX_PAGES", "8")
        .env("REXD_LIMITS", "{max_pages: 7, drain_grace: 45s}")
        .env("REXD_REGISTRIES", "{docker.io: {http: '1.1'}}")
        .env("REXD_REGISTRIES__GHCR.IO__MAX_CONCURRENT_REQUESTS", "3")
        .config();
    assert!(config.listen.is_ipv6());
    assert!(config.allow_unlisted);
    assert_eq!(config.limits.max_pages, 8);
    assert_eq!(config.limits.drain_grace, Duration::from_secs(45));
    assert_eq!(config.registries.get("docker.io").unwrap().http, HttpVersion::Http11);
    assert_eq!(config.registries.get("ghcr.io").unwrap().max_concurrent_requests, 3);
}

#[rstest]
#[case::command_line("REXD_CONFIG", "/etc/rexd.yaml")]
#[case::command_line("REXD_LOG", "debug")]
#[case::command_line("REXD_SERVER", "http://127.0.0.1:1")]
#[case::another_program("PATH", "/bin")]
#[case::service_link("REXD_PORT", "tcp://10.96.0.7:50051")]
#[case::service_link("REXD_SERVICE_HOST", "10.96.0.7")]
#[case::service_link("REXD_SERVICE_PORT", "50051")]
#[case::service_link("REXD_SERVICE_PORT_GRPC", "50051")]
#[case::service_link("REXD_PORT_50051_TCP", "tcp://10.96.0.7:50051")]
#[case::service_link("REXD_PORT_50051_TCP_PROTO", "tcp")]
#[case::service_link("REXD_PORT_50051_TCP_PORT", "50051")]
#[case::service_link("REXD_PORT_50051_TCP_ADDR", "10.96.0.7")]
#[case::service_link_of_another_service("REXD_OPS_PORT_9090_TCP_ADDR", "10.96.0.8")]
fn variables_that_are_not_configuration_are_ignored(#[case] name: &str, #[case] value: &str) {
    assert_eq!(Setup::new().env(name, value).config(), Config::default());
}

#[rstest]
#[case("docker.io", true)]
#[case("localhost:5000", true)]
#[case("10.0.0.1:5000", true)]
#[case("[::1]:5000", true)]
#[case("[::1]", true)]
#[case("Docker.io", false)]
#[case("https://docker.io", false)]
#[case("docker.io/library", false)]
#[case("docker.io:0", false)]
#[case("docker.io:05", false)]
#[case("docker.io:65536", false)]
#[case("docker.io:", false)]
#[case("-a.example", false)]
#[case("a..example", false)]
#[case("me@docker.io", false)]
#[case("0177.1", false)]
#[case("2130706433", false)]
#[case("[0::1]", false)]
#[case("", false)]
fn registry_names_are_hosts_with_an_optional_port(#[case] name: &str, #[case] valid: bool) {
    let yaml = format!("default_registry: \"{name}\"\nregistries: {{\"{name}\": {{}}}}");
    assert_eq!(Setup::new().file(&yaml).load().is_ok(), valid);
}

#[rstest]
#[case::only_one_registry("registries: {ghcr.io: {}}", Some("ghcr.io"))]
#[case::several_registries("registries: {ghcr.io: {}, quay.io: {}}", None)]
#[case::null_is_unset("{default_registry: null, registries: {ghcr.io: {}}}", Some("ghcr.io"))]
#[case::no_registries("allow_unlisted: true", Some("docker.io"))]
#[case::explicit("{default_registry: quay.io, registries: {ghcr.io: {}, quay.io: {}}}", Some("quay.io"))]
fn an_unset_default_registry_is_the_only_one_that_is_listed(
    #[case] yaml: &str,
    #[case] expected: Option<&str>,
) {
    let loaded = Setup::new().file(yaml).load().unwrap();
    assert_eq!(loaded.config.default_registry.as_deref(), expected);
    assert_eq!(Setup::new().file(&loaded.render()).config(), loaded.config);
}
