//! Secrets in logs, statuses and panics (containerd#5453, zot GHSA-c37v-3c8w-crq8): every operation, succeeding and
//! failing, with all crates logging at every level.

use std::time::Duration;

use rexd::{
    callers::{Callers, Identity},
    client::Settings,
    policy::Caller,
};
use tonic::Status;

use crate::{
    canary::Canary,
    logs,
    support::{
        call::Call,
        calls::{Calls, Files, NAME, auth, signed_in},
        scripted::{Reply, ScriptedRegistry},
        service::{Options, Service, settings},
        token_server::{Rules, TokenServer, basic_of, content},
    },
};

/// Makes every kind of call, and returns what failed.
async fn every_call(calls: &Calls) -> Vec<Status> {
    let digest = format!("sha256:{}", "a".repeat(64));
    let outcomes = [
        calls.ping().await.map(drop),
        calls.served("team/app").await.map(drop),
        calls.catalog().await.map(drop),
        calls.manifest("team/app", "v1").await.map(drop),
        calls.blob("team/app", &digest).await,
    ];
    outcomes.into_iter().filter_map(Result::err).collect()
}

#[tokio::test]
async fn neither_password_nor_token_is_in_any_output_when_calls_succeed() {
    let canary = Canary::new();
    let rules = Rules {
        accounts: vec![("alice".to_owned(), canary.secret.clone())],
        lifetime: Duration::from_secs(2),
        ..Rules::default()
    };
    let (tokens, files) = (TokenServer::start(rules).await, Files::new());
    let registry = tokens.registry().await;
    let source = files.docker_config(serde_json::json!({ NAME: auth("alice", &canary.secret) }));
    let calls = Calls::to(signed_in(registry.address(), source, Some(&tokens))).await;
    let statuses = every_call(&calls).await;
    canary.assert_not_leaked(&statuses);
    tokens.expire_all();
    let statuses = every_call(&calls).await;
    canary.assert_not_leaked(&statuses);

    let mut checked = 0;
    for request in registry.requests() {
        if let Some(token) = request.header("authorization") {
            let token = token.strip_prefix("Bearer ").unwrap().to_owned();
            Canary::of(token).assert_not_leaked(&statuses);
            checked += 1;
        }
    }
    assert!(checked > 5, "only {checked} tokens were checked");
}

#[tokio::test]
async fn a_callers_token_is_in_no_output_and_goes_to_no_registry() {
    let (canary, files) = (Canary::new(), Files::new());
    let caller = Caller::new("build", vec!["registry.test/team/".parse().unwrap()]);
    let identity = Identity::TokenFile(files.write("build", &canary.secret));
    let registry = ScriptedRegistry::start().await;
    registry.otherwise(|_| Some(Reply::json(&serde_json::json!({ "tags": ["v1"] }))));
    let options = Options { callers: Callers::known([(caller, identity)]).unwrap(), ..Options::default() };
    let service = Service::start(vec![settings(NAME, registry.address())], options).await;
    let mut statuses = Vec::new();
    let (known, unknown) = (format!("Bearer {}", canary.secret), format!("Bearer {0}{0}", canary.secret));
    for authorization in [known, unknown, canary.secret.clone()] {
        for repository in ["team/app", "other/app"] {
            let call = Call::tags(NAME, repository);
            statuses.extend(call.outcome_as(&mut service.client().await, &authorization).await.err());
        }
    }
    assert_eq!(statuses.len(), 5, "{statuses:?}");
    canary.assert_not_leaked(&statuses);
    assert_eq!(registry.requests().len(), 1);
    assert!(!registry.requests().iter().any(|request| canary.is_in_request(request)));
}

#[tokio::test]
async fn the_identity_token_in_a_form_is_in_no_output() {
    let canary = Canary::new();
    let rules = Rules { identity: Some(canary.secret.clone()), ..Rules::default() };
    let (tokens, files) = (TokenServer::start(rules).await, Files::new());
    let registry = tokens.registry().await;
    let source = files.docker_config(serde_json::json!({ NAME: { "identitytoken": canary.secret } }));
    let calls = Calls::to(signed_in(registry.address(), source, Some(&tokens))).await;
    let statuses = every_call(&calls).await;
    canary.assert_not_leaked(&statuses);
    assert!(tokens.requests().iter().any(|request| canary.is_in_request(request)));
}

#[tokio::test]
async fn secrets_that_a_registry_repeats_in_its_responses_are_in_no_output() {
    let canary = Canary::new();
    for status in [200, 400, 401, 403, 404, 405, 416, 418, 429, 500, 503] {
        let (files, registry, secret) =
            (Files::new(), ScriptedRegistry::start().await, canary.secret.clone());
        registry.otherwise(move |request| {
            let body = format!(
                r#"{{"errors": [{{"code": "{secret}", "message": "{secret}", "detail": "{secret}"}}], "{secret}": 1}}"#
            );
            Some(if basic_of(request).is_none() {
                Reply::status(401).header("WWW-Authenticate", "Basic realm=\"r\"")
            } else {
                Reply::status(status)
                    .header("Content-Type", format!("application/{secret}"))
                    .header("X-Echo", secret.clone())
                    .body(body)
            })
        });
        let calls =
            Calls::to(signed_in(registry.address(), files.password("alice", &canary.secret), None)).await;
        let statuses = every_call(&calls).await;
        assert!(!statuses.is_empty(), "{status}: {statuses:?}");
        for refused in &statuses {
            // A message may quote a well-formed error code or content type. The canary has characters of neither.
            assert!(!refused.message().contains("errors"), "{refused:?}");
        }
        canary.assert_not_leaked(&statuses);
    }
}

#[tokio::test]
async fn a_secret_in_an_error_response_of_a_token_service_is_in_no_output() {
    let (canary, files) = (Canary::new(), Files::new());
    for status in [200, 400, 401, 403, 404, 500] {
        let rules = Rules {
            reply: Some(Reply::status(status).body(format!("<html>{}</html>", canary.secret))),
            ..Rules::default()
        };
        let tokens = TokenServer::start(rules).await;
        let registry = tokens.registry().await;
        let source = files.password("alice", &canary.secret);
        let calls = Calls::to(signed_in(registry.address(), source, Some(&tokens))).await;
        let statuses = every_call(&calls).await;
        assert_eq!(statuses.len(), 5);
        canary.assert_not_leaked(&statuses);
    }
}

#[tokio::test]
async fn settings_print_their_headers_as_secrets() {
    let (canary, registry) = (Canary::new(), ScriptedRegistry::start().await);
    registry.otherwise(|request| Some(content(&request.target, "")));
    let mut gateway = settings(NAME, registry.address());
    let mut key = http::HeaderValue::from_str(&canary.secret).unwrap();
    key.set_sensitive(true);
    gateway.http.headers.insert("x-gateway-key", key);
    assert!(!canary.is_in(format!("{:?}", Settings { ..gateway.clone() }).as_bytes()));
    let calls = Calls::to(gateway).await;
    let statuses = every_call(&calls).await;
    assert!(registry.requests().iter().all(|request| canary.is_in_request(request)));
    canary.assert_not_leaked(&statuses);
}

#[tokio::test]
async fn no_log_line_shows_an_authorization_header() {
    let (canary, files) = (Canary::new(), Files::new());
    let tokens = TokenServer::start(Rules {
        accounts: vec![("alice".to_owned(), canary.secret.clone())],
        ..Rules::default()
    })
    .await;
    let registry = tokens.registry().await;
    let source = files.password("alice", &canary.secret);
    let calls = Calls::to(signed_in(registry.address(), source, Some(&tokens))).await;
    calls.served("team/app").await.unwrap();
    let logged = logs::since(0);
    for source in ["hyper_util", "reqwest", "rexd", "h2"] {
        assert!(logged.contains(source), "{source} logs nothing, so nothing is looked at");
    }
    for line in logged.lines() {
        let line = line.to_ascii_lowercase();
        assert!(!line.contains("authorization"), "{line}");
        assert!(!line.contains("basic ey") && !line.contains("bearer token-"), "{line}");
    }
}
