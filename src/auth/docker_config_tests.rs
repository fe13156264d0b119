#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn user_for(config: &str, registry: &str, repository: &str) -> Option<String> {
    let config = DockerConfig::parse(config.as_bytes()).unwrap();
    let found = config.find(&registry.parse().unwrap(), Some(&repository.parse().unwrap()));
    found.map(|(_, credential)| credential.username().unwrap_or_default().to_owned())
}

const MANY: &str = r#"{"auths": {
    "r.example": {"username": "host", "password": "p"},
    "r.example/team": {"username": "team", "password": "p"},
    "r.example/team/app": {"username": "app", "password": "p"},
    "r.example:5000": {"username": "port", "password": "p"},
    "*.azurecr.io": {"username": "glob", "password": "p"},
    "exact.azurecr.io": {"username": "exact", "password": "p"},
    "https://index.docker.io/v1/": {"username": "hub", "password": "p"}
}}"#;

#[test]
fn the_most_specific_entry_wins() {
    for (registry, repository, user) in [
        ("r.example", "other", Some("host")),
        ("r.example", "team", Some("team")),
        ("r.example", "team/x", Some("team")),
        ("r.example", "team/app", Some("app")),
        ("r.example", "teamwork", Some("host")),
        ("r.example:5000", "other", Some("port")),
        ("r.example:5000", "team/app", Some("port")),
        ("r.example:6000", "other", None),
        ("r.example:443", "team/app", Some("app")),
        ("a.azurecr.io", "x", Some("glob")),
        ("exact.azurecr.io", "x", Some("exact")),
        ("a.b.azurecr.io", "x", None),
        ("azurecr.io", "x", None),
        ("docker.io", "library/x", Some("hub")),
        ("r.example.evil", "x", None),
        ("evil-r.example", "x", None),
    ] {
        assert_eq!(user_for(MANY, registry, repository).as_deref(), user, "{registry}/{repository}");
    }
}

#[test]
fn the_default_port_makes_no_difference_in_an_entry_or_a_name() {
    for key in ["r.example", "r.example:443", "https://r.example:0443/v2/", "*.example", "*.example:443"] {
        let config = format!(r#"{{"auths": {{"{key}": {{"username": "u", "password": "p"}}}}}}"#);
        for registry in ["r.example", "r.example:443"] {
            assert_eq!(user_for(&config, registry, "x").as_deref(), Some("u"), "{key} and {registry}");
        }
        assert_eq!(user_for(&config, "r.example:5000", "x"), None, "{key}");
    }
}

#[test]
fn the_prefix_of_the_api_is_no_part_of_a_path() {
    for key in ["r.example/v2/other", "https://r.example/v2/other/", "http://r.example/v1/other"] {
        let config = format!(r#"{{"auths": {{"{key}": {{"username": "u", "password": "p"}}}}}}"#);
        assert_eq!(user_for(&config, "r.example", "other/app").as_deref(), Some("u"), "{key}");
        assert_eq!(user_for(&config, "r.example", "another"), None, "{key}");
    }
}

#[test]
fn a_character_class_is_told_from_an_ipv6_address() {
    for (key, class) in [
        ("[r].example/x", true),
        ("a[bc].example", true),
        ("[::1]:5000", false),
        ("[::1]/x", false),
        ("*.r", false),
    ] {
        assert_eq!(Pattern::parse(key).unwrap().has_class(), class, "{key}");
    }
}

#[test]
fn an_entry_is_auth_or_a_pair_or_a_token() {
    // "user:pass:word" in base64
    let auth = r#"{"auths": {"r.example": {"auth": "dXNlcjpwYXNzOndvcmQ="}}}"#;
    assert_eq!(user_for(auth, "r.example", "x").as_deref(), Some("user"));
    let config =
        DockerConfig::parse(br#"{"auths": {"r.example": {"identitytoken": "t", "auth": "PHRva2VuPjo="}}}"#);
    let (_, found) = config.unwrap().find(&"r.example".parse().unwrap(), None).unwrap();
    assert!(matches!(found.secret(), super::super::credential::Secret::Identity { .. }));
    let config = DockerConfig::parse(br#"{"auths": {"r.example": {"registrytoken": "t"}}}"#);
    let (_, found) = config.unwrap().find(&"r.example".parse().unwrap(), None).unwrap();
    assert!(matches!(found.secret(), super::super::credential::Secret::Bearer(_)));
}

#[test]
fn a_broken_file_is_an_error_that_quotes_no_secret() {
    for broken in [
        "",
        "canary-secret",
        r#"{"auths": {"r.example": {"auth": "canary-secret!"}}}"#,
        r#"{"auths": {"r.example": {"auth": "Y2FuYXJ5LXNlY3JldA=="}}}"#,
        r#"{"auths": {"r.example": {"auth": 7, "password": "canary-secret"}}}"#,
        r#"{"auths": {"r.example": {"password": "canary-secret"}}}"#,
        r#"{"auths": {"r.example": {"username": "canary-secret"}}}"#,
        r#"{"credsStore": "desktop", "auths": {"r.example": {}}}"#,
        r#"{"auths": {"": {"username": "u", "password": "canary-secret"}}}"#,
    ] {
        let problem = DockerConfig::parse(broken.as_bytes()).unwrap_err();
        assert!(!problem.contains("canary") && !problem.contains("Y2Fu"), "{problem}");
    }
}

#[test]
fn labels_match_globs_in_bounded_time() {
    assert!(label_matches(b"*", b"anything"));
    assert!(label_matches(b"a*c?", b"abbcd"));
    assert!(!label_matches(b"a*c", b"abbcd"));
    assert!(!label_matches(&b"*a".repeat(200), &[b'a'; 150]));
}

proptest::proptest! {
    #[test]
    fn no_file_makes_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = DockerConfig::parse(&bytes);
    }

    #[test]
    fn a_key_matches_no_other_host(key in "[a-z*?.:/\\[\\]-]{1,20}", host in "[a-z]{1,6}(\\.[a-z]{1,6}){0,3}") {
        if let Some(pattern) = Pattern::parse(&key) {
            let literal = !pattern.host.contains(['*', '?']);
            let matched = pattern.matches(&host, None, "x");
            proptest::prop_assert!(!(literal && matched) || pattern.host == host);
        }
    }
}
