//! Docker's token protocol: what the service sends to the token service, and what it uses of the response.

use std::time::Duration;

use crate::{
    Calls, Files, NAME, anonymous, auth, signed_in,
    support::token_server::{Rules, TokenServer},
};

fn alice() -> Rules {
    Rules { accounts: vec![("alice".to_owned(), "secret".to_owned())], ..Rules::default() }
}

#[tokio::test]
async fn a_token_is_fetched_by_get_with_service_scope_account_and_basic() {
    let (tokens, files) = (TokenServer::start(alice()).await, Files::new());
    let registry = tokens.registry().await;
    let calls =
        Calls::to(signed_in(registry.address(), files.password("alice", "secret"), Some(&tokens))).await;
    assert_eq!(calls.served("team/app").await.unwrap(), "alice");
    let exchanges = tokens.exchanges();
    assert_eq!(exchanges.len(), 1);
    let exchange = &exchanges[0];
    assert_eq!((exchange.method.as_str(), exchange.user.as_str()), ("GET", "alice"));
    let field = |name: &str| exchange.fields.get(name).map(String::as_str);
    assert_eq!(field("service"), Some("test"));
    assert_eq!(field("account"), Some("alice"));
    assert_eq!(field("client_id"), Some("rexd"));
}

#[tokio::test]
async fn an_anonymous_token_is_fetched_without_any_credential() {
    let tokens = TokenServer::start(Rules::default()).await;
    let registry = tokens.registry().await;
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    assert_eq!(calls.served("team/app").await.unwrap(), "anonymous");
    assert_eq!(tokens.requests()[0].header("authorization"), None);
    assert_eq!(tokens.exchanges()[0].fields.get("account"), None);
}

#[tokio::test]
async fn the_scope_is_that_of_the_operation_and_not_of_the_challenge() {
    let tokens = TokenServer::start(Rules::default()).await;
    let registry = tokens.registry().await;
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    assert!(tokens.challenge().contains("repository:user/image:pull"));
    calls.served("team/app").await.unwrap();
    calls.catalog().await.unwrap();
    let exchanges = tokens.exchanges();
    let scopes: Vec<_> = exchanges.iter().map(|exchange| exchange.scope()).collect();
    assert_eq!(scopes, ["repository:team/app:pull", "registry:catalog:*"]);
}

#[tokio::test]
async fn the_realms_own_query_is_kept_except_for_parameters_that_the_client_sets() {
    let tokens = TokenServer::start(Rules::default()).await;
    let registry = crate::support::scripted::ScriptedRegistry::start().await;
    let (server, realm) =
        (tokens.clone(), format!("http://{}/token?scope=a&tenant=7&client_id=b&account=c", tokens.address()));
    registry.otherwise(move |request| {
        use crate::support::{scripted::Reply, token_server};
        let admitted = server.admits(request, "repository:team/app:pull");
        Some(match admitted {
            Some(user) => token_server::content(&request.target, &user),
            None => Reply::status(401).header("WWW-Authenticate", format!("Bearer realm=\"{realm}\"")),
        })
    });
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    calls.served("team/app").await.unwrap();
    let exchange = &tokens.exchanges()[0];
    assert_eq!(exchange.fields.get("tenant").map(String::as_str), Some("7"));
    assert_eq!(exchange.fields.get("service"), None, "the challenge names no service");
    assert_eq!(exchange.fields.get("account"), None, "there is no account");
    let target = &tokens.requests()[0].target;
    assert_eq!((target.matches("scope=").count(), target.matches("client_id=").count()), (1, 1), "{target}");
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let rules = Rules { identity: Some("refresh-me".to_owned()), ..alice() };
    let (tokens, files) = (TokenServer::start(rules).await, Files::new());
    let registry = tokens.registry().await;
    let source = files.docker_config(serde_json::json!({ NAME: { "identitytoken": "refresh-me" } }));
    let calls = Calls::to(signed_in(registry.address(), source, Some(&tokens))).await;
    assert_eq!(calls.served("team/app").await.unwrap(), "identity");
    let exchanges = tokens.exchanges();
    assert_eq!(exchanges.len(), 1);
    let exchange = &exchanges[0];
    assert_eq!(exchange.method, "POST");
    let field = |name: &str| exchange.fields.get(name).map(String::as_str);
    assert_eq!(field("grant_type"), Some("refresh_token"));
    assert_eq!(field("service"), Some("test"));
    assert_eq!(field("scope"), Some("repository:team/app:pull"));
    assert!(!tokens.requests()[0].target.contains("refresh-me"), "a secret is no part of a URL");
}

#[tokio::test]
async fn a_token_is_fetched_by_get_when_post_is_refused() {
    for status in [400, 401, 404, 405] {
        let rules = Rules { post_refused: Some(status), ..alice() };
        let (tokens, files) = (TokenServer::start(rules).await, Files::new());
        let registry = tokens.registry().await;
        let mut entry = auth("alice", "secret");
        entry["identitytoken"] = "refresh-me".into();
        let source = files.docker_config(serde_json::json!({ NAME: entry }));
        let calls = Calls::to(signed_in(registry.address(), source, Some(&tokens))).await;
        assert_eq!(calls.served("team/app").await.unwrap(), "alice", "POST got {status}");
        let exchanges = tokens.exchanges();
        let methods: Vec<_> = exchanges.iter().map(|exchange| exchange.method.as_str()).collect();
        assert_eq!(methods, ["POST", "GET"]);
    }
}

#[tokio::test]
async fn the_token_is_in_token_or_in_access_token() {
    for field in ["token", "access_token"] {
        let tokens = TokenServer::start(Rules { field, ..Rules::default() }).await;
        let registry = tokens.registry().await;
        let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
        assert_eq!(calls.served("team/app").await.unwrap(), "anonymous", "{field}");
    }
}

#[tokio::test]
async fn a_token_without_expires_in_is_used_again() {
    let rules = Rules { says_lifetime: false, ..Rules::default() };
    let tokens = TokenServer::start(rules).await;
    let registry = tokens.registry().await;
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    for _ in 0..5 {
        calls.served("team/app").await.unwrap();
    }
    assert_eq!(tokens.exchanges().len(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end() {
    let rules = Rules { lifetime: Duration::from_secs(2), ..Rules::default() };
    let tokens = TokenServer::start(rules).await;
    let registry = tokens.registry().await;
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    calls.served("team/app").await.unwrap();
    let refused = |requests: Vec<crate::support::wire::Request>| {
        let without = |request: &&crate::support::wire::Request| request.header("authorization").is_none();
        requests.iter().filter(without).count()
    };
    assert_eq!(refused(registry.requests()), 1, "the first call learns the challenge");
    tokio::time::sleep(Duration::from_millis(1700)).await;
    calls.served("team/app").await.unwrap();
    assert_eq!(tokens.exchanges().len(), 2);
    assert_eq!(registry.requests().len(), 3, "the registry refused no old token");
}
