//! Registries that differ in how callers sign in. The comment of a test names the registry that needs it.

use tonic::Code;

use crate::{
    Calls, Files, NAME, anonymous, assert_refused, auth, signed_in,
    support::{
        scripted::{Reply, ScriptedRegistry},
        service::settings,
        token_server::{self, Rules, TokenServer, basic_of, scope_of},
    },
};

fn admin() -> Rules {
    Rules { accounts: vec![("admin".to_owned(), "secret".to_owned())], ..Rules::default() }
}

#[tokio::test]
async fn bearer_is_chosen_from_several_challenges_in_one_or_more_header_lines() {
    let tokens = TokenServer::start(admin()).await;
    let bearer = tokens.challenge();
    for lines in [
        vec!["Basic realm=\"r\"".to_owned(), bearer.clone()],
        vec![bearer.clone(), "Basic realm=\"r\"".to_owned()],
        vec![format!("Basic realm=\"r\", {bearer}")],
        vec![format!("{bearer}, Basic realm=\"r\"")],
        vec!["Negotiate".to_owned(), bearer.clone()],
    ] {
        let (registry, server, files) = (ScriptedRegistry::start().await, tokens.clone(), Files::new());
        let offered = lines.clone();
        registry.otherwise(move |request| {
            if let Some(user) = server.admits(request, &scope_of(&request.target)) {
                return Some(token_server::content(&request.target, &user));
            }
            let refuse = |reply: Reply, line: &String| reply.header("WWW-Authenticate", line.clone());
            Some(offered.iter().fold(Reply::status(401), refuse))
        });
        let source = files.password("admin", "secret");
        let calls = Calls::to(signed_in(registry.address(), source, Some(&tokens))).await;
        assert_eq!(calls.served("team/app").await.unwrap(), "admin", "{lines:?}");
        let basic = registry.requests().iter().filter_map(basic_of).count();
        assert_eq!(basic, 0, "the password stays with the token service");
    }
}

/// Google's registries.
#[tokio::test]
async fn a_401_without_a_challenge_leads_to_the_challenge_of_v2() {
    let tokens = TokenServer::start(Rules::default()).await;
    let (registry, server) = (ScriptedRegistry::start().await, tokens.clone());
    registry.otherwise(move |request| {
        let refused = Reply::status(401);
        Some(match server.admits(request, &scope_of(&request.target)) {
            Some(user) => token_server::content(&request.target, &user),
            None if request.target == "/v2/" => refused.header("WWW-Authenticate", server.challenge()),
            None => refused,
        })
    });
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    assert_eq!(calls.served("team/app").await.unwrap(), "anonymous");
    let targets: Vec<_> = registry.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets.len(), 3, "{targets:?}");
    assert_eq!(targets[1], "/v2/");
}

/// harbor#13573.
#[tokio::test]
async fn a_catalog_that_refuses_tokens_gets_basic() {
    let (tokens, files) = (TokenServer::start(admin()).await, Files::new());
    let (registry, server) = (ScriptedRegistry::start().await, tokens.clone());
    registry.otherwise(move |request| {
        let catalog = request.target.starts_with("/v2/_catalog");
        let user = if catalog {
            basic_of(request).map(|(user, _)| user)
        } else {
            server.admits(request, &scope_of(&request.target))
        };
        Some(match user {
            Some(user) => token_server::content(&request.target, &user),
            None => Reply::status(401).header("WWW-Authenticate", server.challenge()),
        })
    });
    let source = files.password("admin", "secret");
    let calls = Calls::to(signed_in(registry.address(), source, Some(&tokens))).await;
    for _ in 0..3 {
        assert_eq!(calls.catalog().await.unwrap(), ["team/app"]);
        assert_eq!(calls.served("team/app").await.unwrap(), "admin");
    }
    // The first page has shown that Basic works: no other page costs a token or a refused request.
    let catalog_tokens = tokens.exchanges().iter().filter(|one| one.scope() == "registry:catalog:*").count();
    assert_eq!(catalog_tokens, 1);
    let requests = registry.requests();
    assert_eq!(requests.iter().filter(|request| request.target.starts_with("/v2/_catalog")).count(), 4);
    // Only the catalog uses Basic.
    let others = requests.iter().filter(|request| !request.target.starts_with("/v2/_catalog"));
    assert_eq!(others.filter_map(basic_of).count(), 0);
}

/// The catalog first accepts only Basic, and later only tokens.
#[tokio::test]
async fn a_catalog_that_accepts_tokens_again_gets_a_token() {
    let (tokens, files) = (TokenServer::start(admin()).await, Files::new());
    let (registry, server) = (ScriptedRegistry::start().await, tokens.clone());
    let takes_basic = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let basic = takes_basic.clone();
    registry.otherwise(move |request| {
        let user = if basic.load(std::sync::atomic::Ordering::SeqCst) {
            basic_of(request).map(|(user, _)| user)
        } else {
            server.admits(request, &scope_of(&request.target))
        };
        Some(match user {
            Some(user) => token_server::content(&request.target, &user),
            None => Reply::status(401).header("WWW-Authenticate", server.challenge()),
        })
    });
    let source = files.password("admin", "secret");
    let calls = Calls::to(signed_in(registry.address(), source, Some(&tokens))).await;
    assert_eq!(calls.catalog().await.unwrap(), ["team/app"]);
    takes_basic.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(calls.catalog().await.unwrap(), ["team/app"]);
    let before = registry.requests().len();
    assert_eq!(calls.catalog().await.unwrap(), ["team/app"]);
    assert_eq!(registry.requests().len(), before + 1, "the token is used at once");
}

#[tokio::test]
async fn a_catalog_that_refuses_an_anonymous_token_is_unauthenticated() {
    let tokens = TokenServer::start(Rules::default()).await;
    let (registry, challenge) = (ScriptedRegistry::start().await, tokens.challenge());
    registry.otherwise(move |_| Some(Reply::status(401).header("WWW-Authenticate", challenge.clone())));
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    assert_refused(calls.catalog().await, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED");
}

/// nvcr.io.
#[tokio::test]
async fn repositories_of_one_registry_may_have_different_token_services() {
    let (one, two) = (TokenServer::start(Rules::default()).await, TokenServer::start(Rules::default()).await);
    let (registry, services) = (ScriptedRegistry::start().await, [one.clone(), two.clone()]);
    registry.otherwise(move |request| {
        let service = &services[usize::from(request.target.contains("/two/"))];
        Some(match service.admits(request, &scope_of(&request.target)) {
            Some(user) => token_server::content(&request.target, &user),
            None => Reply::status(401).header("WWW-Authenticate", service.challenge()),
        })
    });
    let mut registry_settings = settings(NAME, registry.address());
    registry_settings.http.token_realms = vec![one.origin(), two.origin()];
    let calls = Calls::to(registry_settings).await;
    for repository in ["team/one/app", "team/two/app", "team/one/app", "team/two/app"] {
        assert_eq!(calls.served(repository).await.unwrap(), "anonymous", "{repository}");
    }
}

/// A storage host behind a redirect does not decide where the registry's credentials go.
#[tokio::test]
async fn a_challenge_from_the_target_of_a_redirect_is_not_followed() {
    let (tokens, files) = (TokenServer::start(admin()).await, Files::new());
    let storage = ScriptedRegistry::start().await;
    storage.otherwise(|_| {
        Some(Reply::status(401).header("WWW-Authenticate", "Bearer realm=\"https://evil.example/token\""))
    });
    let (registry, server) = (ScriptedRegistry::start().await, tokens.clone());
    let location = format!("http://{}/elsewhere", storage.address());
    registry.otherwise(move |request| {
        Some(match server.admits(request, &scope_of(&request.target)) {
            Some(_) if request.target.contains("/moved/") => {
                Reply::status(307).header("Location", location.clone())
            }
            Some(user) => token_server::content(&request.target, &user),
            None => Reply::status(401).header("WWW-Authenticate", server.challenge()),
        })
    });
    let source = files.docker_config(serde_json::json!({ NAME: auth("admin", "secret") }));
    let mut registry_settings = signed_in(registry.address(), source, Some(&tokens));
    registry_settings.http.trusted_origins = vec![format!("http://{}", storage.address()).parse().unwrap()];
    let calls = Calls::to(registry_settings).await;
    let moved = calls.served("team/moved/app").await;
    assert_refused(moved, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED");
    assert_eq!(calls.served("team/app").await.unwrap(), "admin");
}

/// The token service is behind the same gateway as the registry.
#[tokio::test]
async fn a_token_request_to_the_registrys_own_origin_carries_its_headers() {
    let registry = ScriptedRegistry::start().await;
    let realm = format!("http://{}/token", registry.address());
    registry.otherwise(move |request| {
        if request.header("x-gateway-key") != Some("open") {
            return Some(Reply::status(403));
        }
        let token = serde_json::json!({"token": "plain"});
        Some(if request.target.starts_with("/token") {
            Reply::json(&token)
        } else if request.header("authorization") == Some("Bearer plain") {
            token_server::content(&request.target, "gateway")
        } else {
            Reply::status(401).header("WWW-Authenticate", format!("Bearer realm=\"{realm}\""))
        })
    });
    let mut registry_settings = settings(NAME, registry.address());
    registry_settings.http.headers.insert("x-gateway-key", "open".parse().unwrap());
    let calls = Calls::to(registry_settings).await;
    assert_eq!(calls.served("team/app").await.unwrap(), "gateway");
}
