//! Token services that return no token: each failure becomes a status that names the cause, and never a panic or an
//! endless wait.

use std::time::{Duration, Instant};

use rexd::grpc::proto::ListTagsRequest;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    Calls, Files, NAME, anonymous, assert_refused, signed_in,
    support::{
        listen,
        scripted::{Reply, ScriptedRegistry},
        service::{settings, with_http},
        token_server::{Rules, TokenServer},
    },
};

/// Makes a call whose token service sends `reply`, and returns the status.
async fn refused_by(reply: Reply) -> (Status, TokenServer) {
    let rules = Rules { reply: Some(reply), ..Rules::default() };
    let tokens = TokenServer::start(rules).await;
    let registry = tokens.registry().await;
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    (calls.served("team/app").await.unwrap_err(), tokens)
}

#[tokio::test]
async fn a_refusal_of_the_token_service_reaches_the_caller() {
    for (status, code, reason) in [
        (401, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED"),
        (403, Code::PermissionDenied, "REGISTRY_DENIED"),
    ] {
        let (refused, tokens) = refused_by(Reply::status(status)).await;
        let refused = assert_refused::<()>(Err(refused), code, reason);
        assert!(refused.message().contains("token service"), "{refused:?}");
        assert_eq!(tokens.exchanges().len(), 1, "a retry would not help");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = ScriptedRegistry::start().await;
    let location = format!("http://{}/token", elsewhere.address());
    let (refused, _) = refused_by(Reply::status(307).header("Location", location)).await;
    assert_refused::<()>(Err(refused), Code::Internal, "REGISTRY_INVALID_RESPONSE");
    assert_eq!(elsewhere.requests().len(), 0);
}

#[tokio::test]
async fn a_response_without_a_valid_token_is_an_invalid_response() {
    for body in [
        "<html>log in</html>",
        "{}",
        r#"{"token": ""}"#,
        r#"{"token": null, "access_token": 5}"#,
        r#"{"token": "with\nline break"}"#,
        "[]",
        "",
    ] {
        let (refused, _) =
            refused_by(Reply::status(200).header("Content-Type", "text/html").body(body)).await;
        let refused = assert_refused::<()>(Err(refused), Code::Internal, "REGISTRY_INVALID_RESPONSE");
        assert!(!refused.message().contains("html"), "the body is not quoted");
    }
}

#[tokio::test]
async fn a_token_with_an_invalid_lifetime_is_still_used() {
    for lifetime in ["-1", "0", "1e300", "null", "3.5", "9223372036854775807"] {
        let tokens = TokenServer::start(Rules::default()).await;
        let body = format!(r#"{{"token": "plain", "expires_in": {lifetime}}}"#);
        tokens.change(|rules| rules.reply = Some(Reply::status(200).body(body)));
        let (registry, challenge) = (ScriptedRegistry::start().await, tokens.challenge());
        registry.otherwise(move |request| {
            Some(if request.header("authorization") == Some("Bearer plain") {
                Reply::json(&serde_json::json!({"name": "team/app", "tags": ["v1"]}))
            } else {
                Reply::status(401).header("WWW-Authenticate", challenge.clone())
            })
        });
        let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
        assert_eq!(calls.served("team/app").await.unwrap(), "v1", "expires_in {lifetime}");
    }
}

#[tokio::test]
async fn a_token_response_of_more_than_64_kib_is_too_large() {
    let body = format!(r#"{{"token": "{}"}}"#, "x".repeat(65 << 10));
    let (refused, _) = refused_by(Reply::status(200).body(body)).await;
    let refused = assert_refused::<()>(Err(refused), Code::ResourceExhausted, "RESPONSE_TOO_LARGE");
    assert!(refused.message().contains("token response"), "{refused:?}");
}

#[tokio::test]
async fn a_failure_of_the_token_service_is_a_failure_of_the_registry() {
    let (refused, tokens) = refused_by(Reply::status(503)).await;
    assert_refused::<()>(Err(refused), Code::Unavailable, "REGISTRY_UNAVAILABLE");
    assert!(tokens.exchanges().len() <= 3, "attempts are bounded");
    let (refused, _) = refused_by(Reply::status(429).header("Retry-After", "120")).await;
    assert_refused::<()>(Err(refused), Code::ResourceExhausted, "REGISTRY_RATE_LIMITED");
}

#[tokio::test]
async fn a_rate_limit_of_the_token_service_does_not_pause_the_registry() {
    let tokens = TokenServer::start(Rules::default()).await;
    let registry = tokens.registry().await;
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    assert_eq!(calls.served("team/app").await.unwrap(), "anonymous");
    let limited = Reply::status(429).header("Retry-After", "120");
    tokens.change(|rules| rules.reply = Some(limited));
    let needs_a_token = calls.served("team/other").await;
    assert_refused(needs_a_token, Code::ResourceExhausted, "REGISTRY_RATE_LIMITED");
    let requests = tokens.requests().len();
    // The token of this repository is still valid, and the registry itself limits nothing.
    assert_eq!(calls.served("team/app").await.unwrap(), "anonymous");
    // The token service gets no request until then.
    let needs_a_token = calls.served("team/third").await;
    assert_refused(needs_a_token, Code::ResourceExhausted, "REGISTRY_RATE_LIMITED");
    assert_eq!(tokens.requests().len(), requests);
}

#[tokio::test]
async fn a_call_whose_deadline_is_before_the_end_of_a_token_services_pause_fails_at_once() {
    let tokens = TokenServer::start(Rules::default()).await;
    let registry = tokens.registry().await;
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    let limited = Reply::status(429).header("Retry-After", "20");
    tokens.change(|rules| rules.reply = Some(limited));
    let within = |seconds, repository: &str| {
        let list = ListTagsRequest {
            registry: NAME.to_owned(),
            repository: repository.to_owned(),
            ..ListTagsRequest::default()
        };
        let (mut request, mut client) = (tonic::Request::new(list), calls.client.clone());
        request.set_timeout(Duration::from_secs(seconds));
        async move { client.list_tags(request).await }
    };
    // This call begins the pause, and waits in it until its deadline.
    within(1, "team/app").await.unwrap_err();
    let asked = tokens.requests().len();
    for repository in ["team/app", "team/other"] {
        let refused = within(5, repository).await;
        let refused = assert_refused(refused, Code::ResourceExhausted, "REGISTRY_RATE_LIMITED");
        let delay = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert!((10..=20).contains(&delay.as_secs()), "{delay:?}");
    }
    assert_eq!(tokens.requests().len(), asked);
}

#[tokio::test]
async fn a_token_service_that_does_not_respond_times_out() {
    // The kernel accepts the connection; nothing reads from it.
    let silent = listen().await;
    let origin = format!("http://{}", silent.local_addr().unwrap());
    let (registry, realm) = (ScriptedRegistry::start().await, origin.clone());
    registry.otherwise(move |_| {
        let challenge = format!("Bearer realm=\"{realm}/token\"");
        Some(Reply::status(401).header("WWW-Authenticate", challenge))
    });
    let calls = Calls::to(with_http(settings(NAME, registry.address()), |http| {
        http.token_realms = vec![origin.parse().unwrap()];
        http.header_timeout = Duration::from_millis(300);
    }))
    .await;
    let began = Instant::now();
    assert_refused(calls.served("team/app").await, Code::Unavailable, "REGISTRY_TIMEOUT");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_wrong_password_is_unauthenticated_with_a_reason_and_without_the_password() {
    let rules = Rules { accounts: vec![("alice".to_owned(), "secret".to_owned())], ..Rules::default() };
    let (tokens, files) = (TokenServer::start(rules).await, Files::new());
    let registry = tokens.registry().await;
    let source = files.password("alice", "not-the-secret");
    let calls = Calls::to(signed_in(registry.address(), source, Some(&tokens))).await;
    let refused =
        assert_refused(calls.served("team/app").await, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED");
    assert!(refused.message().contains("does not accept the credentials"), "{refused:?}");
    assert!(!format!("{refused:?}").contains("not-the-secret"));
}
