//! Basic, and what Ping reports about signing in.

use rexd::grpc::proto::AuthScheme;
use tonic::Code;

use crate::{
    Calls, Files, NAME, anonymous, assert_refused, signed_in,
    support::{
        scripted::{Reply, ScriptedRegistry},
        service::settings,
        token_server::{self, Rules, TokenServer, basic_of},
    },
};

/// A registry that accepts one user by Basic.
async fn basic_registry() -> ScriptedRegistry {
    let registry = ScriptedRegistry::start().await;
    registry.otherwise(|request| {
        let pair = basic_of(request);
        Some(match pair {
            Some((user, password)) if password == "secret" => token_server::content(&request.target, &user),
            _ => Reply::status(401).header("WWW-Authenticate", "Basic realm=\"registry\""),
        })
    });
    registry
}

#[tokio::test]
async fn basic_is_sent_after_the_first_challenge_and_then_with_every_call() {
    let (registry, files) = (basic_registry().await, Files::new());
    let calls = Calls::to(signed_in(registry.address(), files.password("alice", "secret"), None)).await;
    assert_eq!(calls.served("team/app").await.unwrap(), "alice");
    assert_eq!(calls.catalog().await.unwrap(), ["team/app"]);
    let credentials: Vec<_> = registry.requests().iter().map(basic_of).collect();
    assert_eq!(credentials[0], None, "no credentials are sent before a challenge");
    let alice = Some(("alice".to_owned(), "secret".to_owned()));
    assert_eq!(credentials[1..], [alice.clone(), alice]);
}

#[tokio::test]
async fn a_basic_registry_without_credentials_is_unauthenticated() {
    let registry = basic_registry().await;
    let calls = Calls::to(settings(NAME, registry.address())).await;
    for refused in [calls.ping().await.map(drop), calls.served("team/app").await.map(drop)] {
        let refused = assert_refused(refused, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED");
        assert!(refused.message().contains("user name and a password"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_sent_once_in_a_call() {
    let (registry, files) = (basic_registry().await, Files::new());
    let calls = Calls::to(signed_in(registry.address(), files.password("alice", "wrong"), None)).await;
    let refused = calls.served("team/app").await;
    assert_refused(refused, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED");
    assert_eq!(registry.requests().len(), 2, "retries could lock the account");
}

#[tokio::test]
async fn ping_reports_the_scheme_of_the_registrys_challenge() {
    let scheme = |ping: rexd::grpc::proto::PingResponse| ping.auth_scheme();
    let open = ScriptedRegistry::start().await;
    open.always("GET", "/v2/", token_server::content("/v2/", ""));
    let calls = Calls::to(settings(NAME, open.address())).await;
    let pong = calls.ping().await.unwrap();
    assert_eq!(pong.api_version, "registry/2.0");
    assert_eq!(scheme(pong), AuthScheme::None);

    let (basic, files) = (basic_registry().await, Files::new());
    let calls = Calls::to(signed_in(basic.address(), files.password("alice", "secret"), None)).await;
    assert_eq!(scheme(calls.ping().await.unwrap()), AuthScheme::Basic);

    let rules = Rules { accounts: vec![("alice".to_owned(), "secret".to_owned())], ..Rules::default() };
    let tokens = TokenServer::start(rules).await;
    let bearer = tokens.registry().await;
    let source = files.password("alice", "secret");
    let calls = Calls::to(signed_in(bearer.address(), source, Some(&tokens))).await;
    assert_eq!(scheme(calls.ping().await.unwrap()), AuthScheme::Bearer);

    let calls = Calls::to(anonymous(bearer.address(), &tokens)).await;
    let exchanged = tokens.exchanges().len();
    assert_eq!(scheme(calls.ping().await.unwrap()), AuthScheme::Bearer);
    assert_eq!(tokens.exchanges().len(), exchanged, "a ping needs no token");
}

#[tokio::test]
async fn ping_of_a_registry_that_no_longer_asks_for_tokens_reports_no_scheme() {
    let tokens = TokenServer::start(Rules::default()).await;
    let registry = ScriptedRegistry::start().await;
    let challenge = Reply::status(401).header("WWW-Authenticate", tokens.challenge());
    registry.on("GET", "/v2/", [challenge, token_server::content("/v2/", "")]);
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    for scheme in [AuthScheme::Bearer, AuthScheme::None] {
        assert_eq!(calls.ping().await.unwrap().auth_scheme(), scheme);
    }
    assert!(registry.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn ping_of_an_open_registry_reports_no_scheme_and_sends_no_credentials() {
    let (open, files) = (ScriptedRegistry::start().await, Files::new());
    open.otherwise(|request| Some(token_server::content(&request.target, "")));
    let calls = Calls::to(signed_in(open.address(), files.password("alice", "secret"), None)).await;
    assert_eq!(calls.ping().await.unwrap().auth_scheme(), AuthScheme::None);
    for _ in 0..3 {
        assert_eq!(calls.served("team/app").await.unwrap(), "anonymous");
    }
    let requests = open.requests();
    assert!(requests.iter().all(|request| request.header("authorization").is_none()));
    assert_eq!(requests.len(), 5, "the challenge is requested once, not with every call");
}
