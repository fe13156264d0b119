//! Permits for short requests: each caller in turn, and no longer than the deadline allows.

use std::time::Duration;

use rexd::{
    callers::{Callers, Identity},
    policy::Caller,
};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    PATIENCE, REGISTRY, assert_overloaded,
    gated::GatedRegistry,
    list_tags,
    support::{
        calls::Files,
        service::{Options, Service, settings, with_http},
    },
};

const MANY: &str = "many-token-0123456789";
const ONE: &str = "one-token-0123456789";

/// Long enough for its status to arrive on a busy machine.
const SHORT: Duration = Duration::from_secs(2);

/// A service for two callers, with one permit for short requests to the registry.
async fn service_with_one_permit(registry: &GatedRegistry, files: &Files) -> Service {
    let caller = |name: &str, token: &str| {
        let caller = Caller::new(name, vec!["*".parse().unwrap()]);
        (caller, Identity::TokenFile(files.write(name, token)))
    };
    let callers = Callers::known([caller("many", MANY), caller("one", ONE)]).unwrap();
    let mut options = Options { callers, ..Options::default() };
    options.server.max_concurrent_streams = 2000;
    let settings = with_http(settings(REGISTRY, registry.address), |http| http.max_concurrent_requests = 1);
    Service::start(vec![settings], options).await
}

#[tokio::test]
async fn a_thousand_waiting_calls_of_one_caller_do_not_delay_another_callers_call() {
    let (registry, files) = (GatedRegistry::start().await, Files::new());
    let service = service_with_one_permit(&registry, &files).await;
    let client = service.client().await;
    let mut calls = JoinSet::new();
    let call = |calls: &mut JoinSet<_>, token: &'static str, repository: &'static str| {
        let client = client.clone();
        calls.spawn(async move { list_tags(&client, token, repository, PATIENCE).await });
    };
    call(&mut calls, MANY, "many/app");
    registry.requests(1).await;
    for _ in 0..1000 {
        call(&mut calls, MANY, "many/app");
    }
    // A refused call of the same connection shows that the calls before it have arrived.
    assert_overloaded(
        list_tags(&client, MANY, "many/app", SHORT).await.unwrap_err(),
        "max_concurrent_requests",
    );
    call(&mut calls, ONE, "one/app");
    assert_overloaded(
        list_tags(&client, ONE, "one/app", SHORT).await.unwrap_err(),
        "max_concurrent_requests",
    );
    registry.complete(2);
    // The first request, and the next two permits: one of them is the other caller's.
    let targets = registry.requests(3).await;
    assert!(targets[1..3].iter().any(|target| target.contains("/one/app/")), "{targets:?}");
    registry.complete(2000);
    while let Some(outcome) = calls.join_next().await {
        outcome.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_call_that_gets_no_permit_is_refused_before_its_deadline() {
    let (registry, files) = (GatedRegistry::start().await, Files::new());
    let service = service_with_one_permit(&registry, &files).await;
    let client = service.client().await;
    let first = tokio::spawn({
        let client = client.clone();
        async move { list_tags(&client, MANY, "many/app", PATIENCE).await }
    });
    registry.requests(1).await;
    let began = Instant::now();
    let refused = list_tags(&client, ONE, "one/app", SHORT).await.unwrap_err();
    assert_overloaded(refused, "max_concurrent_requests");
    assert!(began.elapsed() > SHORT / 2, "it waited only {:?}", began.elapsed());
    registry.complete(1);
    first.await.unwrap().unwrap();
    assert_eq!(registry.requests(1).await.len(), 1, "the refused call sent no request");
}

#[tokio::test]
async fn a_call_waits_for_a_permit_no_longer_than_the_header_timeout() {
    let registry = GatedRegistry::start().await;
    let limit = Duration::from_secs(1);
    let settings = with_http(settings(REGISTRY, registry.address), |http| {
        http.max_concurrent_requests = 1;
        http.header_timeout = limit;
    });
    let service = Service::start(vec![settings], Options::default()).await;
    let client = service.client().await;
    let first = tokio::spawn({
        let client = client.clone();
        async move { list_tags(&client, "", "many/app", PATIENCE).await }
    });
    registry.requests(1).await;
    let began = Instant::now();
    let refused = list_tags(&client, "", "one/app", PATIENCE).await.unwrap_err();
    assert_overloaded(refused, "max_concurrent_requests");
    assert!(began.elapsed() >= limit, "it waited only {:?}", began.elapsed());
    registry.complete(1);
    first.await.unwrap().unwrap();
}
