//! Permits for short requests: callers take turns, and no call waits longer than its deadline allows.

use std::time::Duration;

use rexd::{
    callers::{Callers, Identity},
    grpc::proto::registry_service_client::RegistryServiceClient,
    policy::Caller,
};
use tokio::{task::JoinSet, time::Instant};
use tonic::transport::{Channel, Endpoint};

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

/// A client, and the token of its calls.
type Peer = (RegistryServiceClient<Channel>, &'static str);

/// The callers with the tokens [`MANY`] and [`ONE`].
fn callers(files: &Files) -> Callers {
    let caller = |name: &str, token: &str| {
        let caller = Caller::new(name, vec!["*".parse().unwrap()]);
        (caller, Identity::TokenFile(files.write(name, token)))
    };
    Callers::known([caller("many", MANY), caller("one", ONE)]).unwrap()
}

/// A service with one permit for short requests to the registry.
async fn service_with_one_permit(registry: &GatedRegistry, callers: Callers) -> Service {
    let mut options = Options { callers, ..Options::default() };
    options.server.max_concurrent_streams = 2000;
    let settings = with_http(settings(REGISTRY, registry.address), |http| http.max_concurrent_requests = 1);
    Service::start(vec![settings], options).await
}

/// Makes a thousand calls of one caller wait, then one of another caller, which must get one of the next two permits.
async fn assert_the_other_caller_gets_its_turn(registry: &GatedRegistry, many: Peer, one: Peer) {
    let mut calls = JoinSet::new();
    // Each call is for another repository: identical ones would be one request.
    let call = |calls: &mut JoinSet<_>, (client, token): &Peer, repository: String| {
        let (client, token) = (client.clone(), *token);
        calls.spawn(async move { list_tags(&client, token, &repository, PATIENCE).await });
    };
    call(&mut calls, &many, "many/app".to_owned());
    registry.requests(1).await;
    for number in 0..1000 {
        call(&mut calls, &many, format!("many/app{number}"));
    }
    // A refused call on the same connection shows that the calls before it have arrived.
    let refused = list_tags(&many.0, many.1, "many/last", SHORT).await.unwrap_err();
    assert_overloaded(refused, "max_concurrent_requests");
    call(&mut calls, &one, "one/app".to_owned());
    let refused = list_tags(&one.0, one.1, "one/last", SHORT).await.unwrap_err();
    assert_overloaded(refused, "max_concurrent_requests");
    registry.complete(2);
    // The first request, and those that got the next two permits.
    let targets = registry.requests(3).await;
    assert!(targets[1..3].iter().any(|target| target.contains("/one/app/")), "{targets:?}");
    registry.complete(2000);
    while let Some(outcome) = calls.join_next().await {
        outcome.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_thousand_waiting_calls_of_one_caller_do_not_delay_another_callers_call() {
    let (registry, files) = (GatedRegistry::start().await, Files::new());
    let service = service_with_one_permit(&registry, callers(&files)).await;
    let client = service.client().await;
    assert_the_other_caller_gets_its_turn(&registry, (client.clone(), MANY), (client, ONE)).await;
}

#[tokio::test]
async fn without_configured_callers_addresses_take_turns() {
    let registry = GatedRegistry::start().await;
    let service = service_with_one_permit(&registry, Callers::anybody()).await;
    let from = async |address: [u8; 4]| {
        let endpoint = Endpoint::from_shared(format!("http://{}", service.address)).unwrap();
        let channel = endpoint.local_address(Some(address.into())).connect().await.unwrap();
        (RegistryServiceClient::new(channel), "")
    };
    let (many, one) = (from([127, 0, 0, 2]).await, from([127, 0, 0, 3]).await);
    assert_the_other_caller_gets_its_turn(&registry, many, one).await;
}

#[tokio::test]
async fn a_call_that_gets_no_permit_is_refused_before_its_deadline() {
    let (registry, files) = (GatedRegistry::start().await, Files::new());
    let service = service_with_one_permit(&registry, callers(&files)).await;
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
