//! Calls share one token exchange. They never share a token of another credential or another repository.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    Calls, Files, NAME, anonymous, auth, signed_in,
    support::{
        service::settings,
        token_server::{Rules, TokenServer},
    },
};

fn team(users: &[&str]) -> Rules {
    Rules {
        accounts: users.iter().map(|user| ((*user).to_owned(), "secret".to_owned())).collect(),
        ..Rules::default()
    }
}

/// Makes all calls at once and returns their results in order.
async fn at_once<T: Send + 'static>(
    calls: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut under_way = JoinSet::new();
    for (place, call) in calls.enumerate() {
        under_way.spawn(async move { (place, call.await) });
    }
    let outcomes: HashMap<usize, T> = under_way.join_all().await.into_iter().collect();
    let mut outcomes: Vec<_> = outcomes.into_iter().collect();
    outcomes.sort_by_key(|(place, _)| *place);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

#[tokio::test]
async fn a_token_is_for_one_repository() {
    let tokens = TokenServer::start(Rules::default()).await;
    let registry = tokens.registry().await;
    let calls = Calls::to(anonymous(registry.address(), &tokens)).await;
    for repository in ["team/one", "team/two", "team/one", "team/two"] {
        calls.served(repository).await.unwrap();
    }
    let exchanges = tokens.exchanges();
    let scopes: Vec<_> = exchanges.iter().map(|exchange| exchange.scope()).collect();
    assert_eq!(scopes, ["repository:team/one:pull", "repository:team/two:pull"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_with_a_cold_cache_are_one_exchange_for_each_credential_and_scope() {
    let (tokens, files) = (TokenServer::start(team(&["alice", "bob"])).await, Files::new());
    let registry = tokens.registry().await;
    let source = files.docker_config(serde_json::json!({
        format!("{NAME}/alice"): auth("alice", "secret"),
        format!("{NAME}/bob"): auth("bob", "secret"),
    }));
    let calls = std::sync::Arc::new(Calls::to(signed_in(registry.address(), source, Some(&tokens))).await);
    let repositories = ["alice/one", "alice/two", "bob/one", "bob/two"];
    let served = at_once((0..1000).map(|number| {
        let (calls, repository) = (std::sync::Arc::clone(&calls), repositories[number % 4]);
        async move { (repository, calls.served(repository).await) }
    }))
    .await;
    for (repository, user) in served {
        assert_eq!(user.unwrap(), repository.split_once('/').unwrap().0);
    }
    let mut exchanges: Vec<_> =
        tokens.exchanges().iter().map(|exchange| format!("{} {}", exchange.user, exchange.scope())).collect();
    exchanges.sort();
    let expected = [
        "alice repository:alice/one:pull",
        "alice repository:alice/two:pull",
        "bob repository:bob/one:pull",
        "bob repository:bob/two:pull",
    ];
    assert_eq!(exchanges, expected);
}

/// zot CVE-2024-39897, rust-oci-client#221: one repository path, two credentials, and calls in many orders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_credentials_for_one_repository_never_share_a_token() {
    let (tokens, files) = (TokenServer::start(team(&["alice", "bob"])).await, Files::new());
    let registry = tokens.registry().await;
    let mut both = Vec::new();
    for user in ["alice", "bob"] {
        let mut one = signed_in(registry.address(), files.password(user, "secret"), Some(&tokens));
        one.registry = format!("{user}.test").parse().unwrap();
        both.push(one);
    }
    let calls = std::sync::Arc::new(Calls::to_all(both).await);
    for round in 0..50 {
        tokens.expire_all();
        let served = at_once((0..20).map(|number| {
            // Another order in every round.
            let user = ["alice", "bob"][((number * (round + 1)) >> (round % 3)) % 2];
            let calls = std::sync::Arc::clone(&calls);
            async move { (user, calls.served_by(&format!("{user}.test"), "team/app").await) }
        }))
        .await;
        for (user, served) in served {
            assert_eq!(served.unwrap(), user, "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_for_paths_of_one_registry_never_share_a_token() {
    let users = ["alice", "bob", "carol"];
    let (tokens, files) = (TokenServer::start(team(&users)).await, Files::new());
    let registry = tokens.registry().await;
    let source = files.docker_config(serde_json::json!({
        NAME: auth("alice", "secret"),
        format!("{NAME}/team"): auth("bob", "secret"),
        format!("{NAME}/team/app"): auth("carol", "secret"),
    }));
    let calls = std::sync::Arc::new(Calls::to(signed_in(registry.address(), source, Some(&tokens))).await);
    let expected = [
        ("teamwork/app", "alice"),
        ("team/other", "bob"),
        ("team/app", "carol"),
        ("team/app/deeper", "carol"),
    ];
    for round in 0..25 {
        tokens.expire_all();
        let served = at_once((0..16).map(|number| {
            let (repository, user) = expected[(number * 7 + round) % 4];
            let calls = std::sync::Arc::clone(&calls);
            async move { (repository, user, calls.served(repository).await) }
        }))
        .await;
        for (repository, user, served) in served {
            assert_eq!(served.unwrap(), user, "{repository} in round {round}");
        }
    }
}

#[tokio::test]
async fn a_cancelled_call_does_not_cancel_the_token_exchange_of_other_calls() {
    let tokens = TokenServer::start(Rules::default()).await;
    let registry = tokens.registry().await;
    let calls = std::sync::Arc::new(Calls::to(anonymous(registry.address(), &tokens)).await);
    for round in 0..20 {
        tokens.expire_all();
        let first = {
            let calls = std::sync::Arc::clone(&calls);
            tokio::spawn(async move { calls.served("team/app").await })
        };
        let others = at_once((0..10).map(|_| {
            let calls = std::sync::Arc::clone(&calls);
            async move { calls.served("team/app").await }
        }));
        let cancel = async {
            tokio::time::sleep(Duration::from_micros(round * 200)).await;
            first.abort();
        };
        for served in tokio::join!(others, cancel).0 {
            assert_eq!(served.unwrap(), "anonymous");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_in_eight_seconds_of_calls_with_tokens_of_two_seconds() {
    let rules = Rules { lifetime: Duration::from_secs(2), ..Rules::default() };
    let tokens = TokenServer::start(rules).await;
    let registry = tokens.registry().await;
    let mut registry_settings = settings(NAME, registry.address());
    registry_settings.http.token_realms = vec![tokens.origin()];
    let calls = std::sync::Arc::new(Calls::to(registry_settings).await);
    let end = Instant::now() + Duration::from_secs(8);
    let made = at_once((0..8).map(|_| {
        let calls = std::sync::Arc::clone(&calls);
        async move {
            let mut made = 0;
            while Instant::now() < end {
                calls.served("team/app").await.unwrap();
                made += 1;
                // Calls are made all the time, but leave processor time to the tests that run in parallel.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            made
        }
    }))
    .await;
    let made: usize = made.into_iter().sum();
    let exchanges = tokens.exchanges().len();
    assert!((4..=12).contains(&exchanges), "{exchanges} exchanges for {made} calls in 8 s");
}
