//! A registry names its token service. It must not be able to name one that steals credentials (CVE-2026-33540,
//! CVE-2026-48978, go-containerregistry#2193).

use rexd::client::CredentialSource;
use tonic::{Code, Status};

use crate::{
    canary::Canary,
    forbidden_listener::ForbiddenListener,
    support::{
        calls::{Calls, Files, NAME, assert_refused, auth, signed_in},
        scripted::{Reply, ScriptedRegistry},
        service::{settings, with_http},
        token_server::{Rules, TokenServer},
    },
};

/// A registry that responds to every request with a challenge for this realm.
async fn with_realm(realm: &str) -> ScriptedRegistry {
    let (registry, challenge) = (ScriptedRegistry::start().await, format!("Bearer realm=\"{realm}\""));
    registry.otherwise(move |_| Some(Reply::status(401).header("WWW-Authenticate", challenge.clone())));
    registry
}

/// Every kind of credential that is sent to a token service.
fn credential_kinds(files: &Files, canary: &Canary) -> Vec<CredentialSource> {
    let identity = serde_json::json!({ NAME: { "identitytoken": canary.secret } });
    vec![files.password("alice", &canary.secret), files.docker_config(identity)]
}

/// Makes every kind of call to a registry with this realm. All are refused, and none leaks the canary.
async fn refused_with(realm: &str, source: CredentialSource, canary: &Canary) -> Vec<Status> {
    let registry = with_realm(realm).await;
    let calls = Calls::to(signed_in(registry.address(), source, None)).await;
    let refused = vec![
        calls.ping().await.map(drop),
        calls.served("team/app").await.map(drop),
        calls.catalog().await.map(drop),
        calls.manifest("team/app", "v1").await.map(drop),
        calls.blob("team/app", &format!("sha256:{}", "a".repeat(64))).await,
    ];
    let statuses = refused
        .into_iter()
        .map(|outcome| assert_refused(outcome, Code::PermissionDenied, "REGISTRY_NOT_ALLOWED"))
        .collect();
    canary.assert_not_leaked(&statuses);
    let requests = registry.requests();
    assert!(!requests.is_empty());
    assert!(
        !requests.iter().any(|request| canary.is_in_request(request)),
        "a registry that wants a token gets no password"
    );
    statuses
}

#[tokio::test]
async fn credentials_do_not_reach_a_realm_of_another_origin() {
    let (canary, forbidden) = (Canary::new(), ForbiddenListener::start().await);
    for scheme in ["http", "https"] {
        for host in ["127.0.0.1", "localhost", "registry.test", "auth.registry.test"] {
            let files = Files::new();
            for source in credential_kinds(&files, &canary) {
                let realm = format!("{scheme}://{host}:{}/token", forbidden.port());
                for status in refused_with(&realm, source, &canary).await {
                    assert!(status.message().contains("oken"), "{status:?}");
                }
            }
        }
    }
    forbidden.assert_no_connection();
}

#[tokio::test]
async fn credentials_do_not_reach_a_public_realm_that_is_not_configured() {
    let (canary, files) = (Canary::new(), Files::new());
    let source = files.password("alice", &canary.secret);
    for status in refused_with("https://auth.docker.io/token", source, &canary).await {
        assert!(status.message().contains("token_realms"), "the message names the key to set: {status:?}");
    }
}

#[tokio::test]
async fn credentials_reach_the_realm_that_the_operator_named_and_the_token_reaches_the_registry() {
    let canary = Canary::new();
    let rules = Rules { accounts: vec![("alice".to_owned(), canary.secret.clone())], ..Rules::default() };
    let (tokens, files) = (TokenServer::start(rules).await, Files::new());
    let registry = tokens.registry().await;
    let source = files.docker_config(serde_json::json!({ NAME: auth("alice", &canary.secret) }));
    let calls = Calls::to(signed_in(registry.address(), source, Some(&tokens))).await;
    assert_eq!(calls.served("team/app").await.unwrap(), "alice");
    assert!(
        tokens.requests().iter().any(|request| canary.is_in_request(request)),
        "otherwise the other tests check nothing"
    );
    assert!(!registry.requests().iter().any(|request| canary.is_in_request(request)));
    canary.assert_not_leaked([]);
}

#[tokio::test]
async fn a_token_service_that_redirects_takes_no_credentials_with_it() {
    let (canary, forbidden, files) = (Canary::new(), ForbiddenListener::start().await, Files::new());
    let mut statuses = Vec::new();
    for status in [301, 302, 303, 307, 308] {
        let location = format!("http://{}/token", forbidden.address);
        let rules =
            Rules { reply: Some(Reply::status(status).header("Location", location)), ..Rules::default() };
        for source in credential_kinds(&files, &canary) {
            let tokens = TokenServer::start(rules.clone()).await;
            let registry = tokens.registry().await;
            let named = signed_in(registry.address(), source, Some(&tokens));
            // Not even to an origin that the registry's own redirects may lead to.
            let trusted = format!("http://{}", forbidden.address).parse().unwrap();
            let calls = Calls::to(with_http(named, |http| http.trusted_origins = vec![trusted])).await;
            let refused = calls.served("team/app").await;
            statuses.push(assert_refused(refused, Code::Internal, "REGISTRY_INVALID_RESPONSE"));
        }
    }
    canary.assert_not_leaked(&statuses);
    forbidden.assert_no_connection();
}

#[tokio::test]
async fn a_registry_token_is_never_sent_to_a_token_service() {
    let (canary, forbidden, files) = (Canary::new(), ForbiddenListener::start().await, Files::new());
    let registry = with_realm(&format!("http://{}/token", forbidden.address)).await;
    let source = files.docker_config(serde_json::json!({ NAME: { "registrytoken": canary.secret } }));
    let calls = Calls::to(signed_in(registry.address(), source, None)).await;
    let refused = calls.served("team/app").await;
    let refused = assert_refused(refused, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED");
    canary.assert_not_leaked([&refused]);
    forbidden.assert_no_connection();
}

#[tokio::test]
async fn an_anonymous_token_is_not_fetched_from_a_private_realm() {
    Canary::new();
    let forbidden = ForbiddenListener::start().await;
    for scheme in ["http", "https"] {
        for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"] {
            let registry = with_realm(&format!("{scheme}://{host}:{}/token", forbidden.port())).await;
            let calls = Calls::to(settings(NAME, registry.address())).await;
            let refused = calls.served("team/app").await;
            assert_refused(refused, Code::PermissionDenied, "REGISTRY_NOT_ALLOWED");
        }
    }
    forbidden.assert_no_connection();
}

#[tokio::test]
async fn a_call_that_gets_a_new_challenge_each_time_ends_after_a_few_requests() {
    let (canary, files) = (Canary::new(), Files::new());
    let (registry, counter) = (ScriptedRegistry::start().await, std::sync::atomic::AtomicU32::new(0));
    let origin = format!("http://{}", registry.address());
    registry.otherwise(move |request| {
        let number = counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Some(if request.target.starts_with("/token") {
            Reply::json(&serde_json::json!({"token": format!("t{number}")}))
        } else {
            // Another realm each time, all at the registry's own origin.
            let challenge = format!("Bearer realm=\"{origin}/token{number}\"");
            Reply::status(401).header("WWW-Authenticate", challenge)
        })
    });
    let source = files.password("alice", &canary.secret);
    let calls = Calls::to(signed_in(registry.address(), source, None)).await;
    let refused = calls.served("team/app").await;
    let refused = assert_refused(refused, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED");
    assert!(registry.requests().len() <= 12, "{}", registry.requests().len());
    canary.assert_not_leaked([&refused]);
}
