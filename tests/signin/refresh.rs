//! Tokens that a registry no longer accepts: one fresh token for each call, and no loop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use tonic::Code;

use crate::{
    Calls, anonymous, assert_refused,
    support::{
        scripted::{Reply, ScriptedRegistry},
        token_server::{self, Rules, TokenServer},
    },
};

/// ECR's response to an expired token.
fn ecr_expired() -> Reply {
    let message = "Your authorization token has expired. Reauthenticate and try again.";
    let error = serde_json::json!({"errors": [{"code": "DENIED", "message": message}]});
    Reply::status(403).body(error.to_string())
}

#[tokio::test]
async fn a_token_that_the_registry_no_longer_accepts_is_replaced() {
    let tokens = TokenServer::start(Rules::default()).await;
    let registry = tokens.registry().await;
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    calls.served("team/app").await.unwrap();
    tokens.expire_all();
    assert_eq!(calls.served("team/app").await.unwrap(), "anonymous");
    assert_eq!(tokens.exchanges().len(), 2);
}

#[tokio::test]
async fn a_registry_that_accepts_no_token_gets_one_fresh_token_for_each_call() {
    let tokens = TokenServer::start(Rules::default()).await;
    let registry = tokens.registry().await;
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    calls.served("team/app").await.unwrap();
    let challenge = tokens.challenge();
    registry.otherwise(move |_| Some(Reply::status(401).header("WWW-Authenticate", challenge.clone())));
    let (requested, exchanged) = (registry.requests().len(), tokens.exchanges().len());
    for call in 1..=3 {
        let refused = calls.served("team/app").await;
        assert_refused(refused, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED");
        assert_eq!(tokens.exchanges().len(), exchanged + call, "one fresh token for each call");
        assert_eq!(registry.requests().len(), requested + 2 * call, "the old token, then the fresh one");
    }
}

#[tokio::test]
async fn a_403_that_says_the_token_has_expired_leads_to_one_fresh_token() {
    let tokens = TokenServer::start(Rules::default()).await;
    let (registry, server, closed) =
        (ScriptedRegistry::start().await, tokens.clone(), Arc::new(AtomicBool::new(false)));
    let shut = Arc::clone(&closed);
    registry.otherwise(move |request| {
        let user = server.admits(request, &token_server::scope_of(&request.target));
        Some(match (user, request.header("authorization")) {
            (Some(user), _) if !shut.load(SeqCst) => token_server::content(&request.target, &user),
            (_, None) => Reply::status(401).header("WWW-Authenticate", server.challenge()),
            _ => ecr_expired(),
        })
    });
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    calls.served("team/app").await.unwrap();
    tokens.expire_all();
    assert_eq!(calls.served("team/app").await.unwrap(), "anonymous");
    assert_eq!(tokens.exchanges().len(), 2);

    closed.store(true, SeqCst);
    let refused = calls.served("team/app").await;
    assert_refused(refused, Code::PermissionDenied, "REGISTRY_DENIED");
    assert_eq!(tokens.exchanges().len(), 3, "the fresh token was refused too, and the call fails");
}

#[tokio::test]
async fn a_403_for_any_other_reason_costs_no_token() {
    let tokens = TokenServer::start(Rules::default()).await;
    let (registry, challenge) = (ScriptedRegistry::start().await, tokens.challenge());
    registry.otherwise(move |request| {
        let denied =
            serde_json::json!({"errors": [{"code": "DENIED", "message": "requested access is denied"}]});
        Some(match request.header("authorization") {
            Some(_) => Reply::status(403).body(denied.to_string()),
            None => Reply::status(401).header("WWW-Authenticate", challenge.clone()),
        })
    });
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    for _ in 0..3 {
        let refused =
            assert_refused(calls.served("team/app").await, Code::PermissionDenied, "REGISTRY_DENIED");
        assert!(refused.message().contains("not found, or access denied"), "{refused:?}");
    }
    assert_eq!(tokens.exchanges().len(), 1);
}
