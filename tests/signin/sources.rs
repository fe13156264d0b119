//! Where credentials come from. A broken source is an error: no call becomes anonymous instead.

use rexd::{
    client::{Client, CredentialSource, Limits, Settings},
    grpc::proto::AuthScheme,
};

use crate::{
    Calls, Files, NAME, auth, signed_in,
    support::{
        scripted::{Reply, ScriptedRegistry},
        service::settings,
        token_server::{self, basic_of},
    },
};

const TOKEN: &str = "a-token-for-the-registry-itself";

/// A registry that accepts [`TOKEN`], and names a token service that must get no request.
async fn static_registry() -> ScriptedRegistry {
    let registry = ScriptedRegistry::start().await;
    registry.otherwise(|request| {
        let good = request.header("authorization") == Some(&format!("Bearer {TOKEN}"));
        Some(if good {
            token_server::content(&request.target, "holder")
        } else {
            Reply::status(401).header("WWW-Authenticate", "Bearer realm=\"https://evil.example/token\"")
        })
    });
    registry
}

#[tokio::test]
async fn a_registrytoken_is_sent_as_it_is_and_never_to_a_token_service() {
    let (registry, files) = (static_registry().await, Files::new());
    let source = files.docker_config(serde_json::json!({ NAME: { "registrytoken": TOKEN } }));
    let calls = Calls::to(signed_in(registry.address(), source, None)).await;
    assert_eq!(calls.served("team/app").await.unwrap(), "holder");
    assert_eq!(registry.requests().len(), 1, "the first request has the token");
}

#[tokio::test]
async fn a_token_file_is_sent_as_it_is_without_its_line_break() {
    let (registry, files) = (static_registry().await, Files::new());
    let token_file = files.write("token", format!("{TOKEN}\n"));
    let source = CredentialSource::Token { token_file };
    let calls = Calls::to(signed_in(registry.address(), source, None)).await;
    assert_eq!(calls.served("team/app").await.unwrap(), "holder");
    assert_eq!(calls.ping().await.unwrap().auth_scheme(), AuthScheme::Bearer);
}

#[tokio::test]
async fn the_most_specific_docker_config_entry_wins_and_the_first_of_equal_ones() {
    let (registry, files) = (ScriptedRegistry::start().await, Files::new());
    registry.otherwise(|request| {
        Some(match basic_of(request) {
            Some((user, _)) => token_server::content(&request.target, &user),
            None => Reply::status(401).header("WWW-Authenticate", "Basic realm=\"r\""),
        })
    });
    let config = |name: &str, auths: serde_json::Value| CredentialSource::DockerConfig {
        file: files.write(name, serde_json::json!({ "auths": auths }).to_string()),
    };
    let (team, app) = (format!("{NAME}/team"), format!("{NAME}/team/app"));
    let sources = vec![
        config("one", serde_json::json!({ NAME: auth("all", "p"), &team: auth("team", "p") })),
        config("two", serde_json::json!({ app: auth("app", "p"), team: auth("late", "p") })),
    ];
    let calls = Calls::to(Settings { credentials: sources, ..settings(NAME, registry.address()) }).await;
    for (repository, user) in [("team/app", "app"), ("team/other", "team"), ("other", "all")] {
        assert_eq!(calls.served(repository).await.unwrap(), user, "{repository}");
    }
}

/// The error of setting up a registry with this source.
fn problem(source: CredentialSource) -> String {
    let registry = Settings { credentials: vec![source], ..settings(NAME, "127.0.0.1:1".parse().unwrap()) };
    let limits = Limits { manifest_bytes: 1024, list_page_bytes: 1024, max_pages: 1 };
    let Err(errors) = Client::new([registry], Box::new(|_| None), limits) else {
        panic!("a broken file was accepted");
    };
    assert_eq!(errors.len(), 1);
    errors[0].to_string()
}

#[test]
fn a_docker_config_that_is_broken_at_the_start_is_an_error_that_names_the_file() {
    let files = Files::new();
    for broken in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"registry.test": {"auth": "YTpi"}}"#,
        r#"{"auths": {"registry.test": {"auth": "not base64!"}}}"#,
        r#"{"auths": {"registry.test": {"auth": "bm9jb2xvbg=="}}}"#,
        r#"{"auths": []}"#,
    ] {
        let file = files.write("broken.json", broken);
        let error = problem(CredentialSource::DockerConfig { file: file.clone() });
        assert!(error.contains(NAME), "{error}");
        assert!(error.contains(file.to_str().unwrap()), "{broken}: {error}");
    }
}

#[test]
fn a_secret_file_that_is_broken_at_the_start_is_an_error_that_names_the_file() {
    let files = Files::new();
    for broken in ["", "\n", "two\nlines\n", "nul\0"] {
        let file = files.write("secret", broken);
        let named = file.to_str().unwrap().to_owned();
        let password =
            CredentialSource::Password { username: "alice".to_owned(), password_file: file.clone() };
        for source in [password, CredentialSource::Token { token_file: file }] {
            let error = problem(source);
            assert!(error.contains(&named), "{broken:?}: {error}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_at_the_start_is_an_error_that_names_it() {
    let missing = Files::new().path("missing");
    let error = problem(CredentialSource::DockerConfig { file: missing.clone() });
    assert!(error.contains(missing.to_str().unwrap()), "{error}");
}

#[test]
fn a_docker_config_with_nothing_but_a_credential_helper_is_refused() {
    let files = Files::new();
    for helper in [
        r#"{"credsStore": "desktop"}"#,
        r#"{"auths": {"registry.test": {}}, "credsStore": "desktop"}"#,
        r#"{"credHelpers": {"registry.test": "ecr-login"}}"#,
    ] {
        let error = problem(CredentialSource::DockerConfig { file: files.write("helper.json", helper) });
        assert!(error.contains("credential helper"), "{error}");
    }
}
