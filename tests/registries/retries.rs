//! When a request is retried, and how often: a single failed request does not reach the caller, and during an outage
//! retries add few requests.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use tonic::{Code, Request};

use crate::{
    MANIFEST_TARGET, OCI_MANIFEST, REGISTRY, Setting, document, image,
    support::{
        call::Call,
        scripted::{Reply, ScriptedRegistry},
        service::{Options, Service, settings},
        status::Failure,
    },
};

const TAGS_TARGET: &str = "/v2/org/app/tags/list?n=100";

fn tags_page() -> Reply {
    Reply::json(&json!({ "tags": ["v1"] }))
}

#[tokio::test]
async fn a_request_that_fails_twice_is_sent_a_third_time() {
    for glitch in [
        Reply::status(500),
        Reply::status(502),
        Reply::status(503),
        Reply::status(504),
        Reply::Raw(Vec::new()),
    ] {
        let mut setting = Setting::new().await;
        let replies = [glitch.clone(), glitch, document(OCI_MANIFEST, &image("a"))];
        setting.registry.on("GET", MANIFEST_TARGET, replies);
        assert_eq!(setting.manifest("").await.unwrap().content, image("a"));
        assert!(setting.got_expected_requests());
    }
}

#[tokio::test]
async fn a_request_that_fails_three_times_is_not_sent_again() {
    let mut setting = Setting::new().await;
    setting.registry.on("GET", TAGS_TARGET, vec![Reply::status(503); 3]);
    let call = Call::tags(REGISTRY, "org/app");
    setting.fails(&call, Code::Unavailable, "REGISTRY_UNAVAILABLE").await;
    assert!(setting.got_expected_requests());
}

#[tokio::test]
async fn a_failure_that_a_retry_cannot_fix_is_not_retried() {
    for status in [400, 403, 404, 405, 410, 451, 501, 505] {
        let mut setting = Setting::new().await;
        setting.registry.otherwise(move |_| Some(Reply::status(status)));
        let call = Call::manifest(REGISTRY, "org/app", "v1");
        assert!(call.outcome(&mut setting.client).await.is_err());
        assert_eq!(setting.registry.requests().len(), 1, "{status}");
    }
}

/// Requests for 200 calls, made one after the other or all at once, to a registry that always fails.
async fn requests_in_an_outage(reply: Reply, at_once: bool) -> usize {
    const CALLS: usize = 200;
    let setting = Setting::new().await;
    setting.registry.otherwise(move |_| Some(reply.clone()));
    let each = Call::each(REGISTRY);
    let mut calls = JoinSet::new();
    for number in 0..CALLS {
        let (call, mut client) = (each[number % each.len()].clone(), setting.client.clone());
        calls.spawn(async move { Failure::of(call.outcome(&mut client).await.unwrap_err()) });
        if !at_once {
            calls.join_next().await.unwrap().unwrap();
        }
    }
    for failure in calls.join_all().await {
        assert_eq!(failure.status.code(), Code::Unavailable, "{:?}", failure.status);
    }
    setting.registry.requests().len()
}

#[tokio::test]
async fn an_outage_costs_at_most_a_fifth_more_requests_than_calls() {
    let outages = [Reply::status(503), Reply::Raw(Vec::new())].map(|reply| async move {
        tokio::join!(requests_in_an_outage(reply.clone(), false), requests_in_an_outage(reply, true))
    });
    for (one_by_one, at_once) in futures_util::future::join_all(outages).await {
        assert!((200..=240).contains(&one_by_one), "{one_by_one} requests for 200 calls, one by one");
        // Identical calls at the same time share their requests.
        assert!((1..=240).contains(&at_once), "{at_once} requests for 200 calls at once");
    }
}

#[tokio::test]
async fn every_call_to_the_registry_waits_for_retry_after() {
    let mut setting = Setting::new().await;
    let limited = Reply::status(429).header("Retry-After", "1");
    setting.registry.on("GET", TAGS_TARGET, [limited, tags_page()]);
    setting.registry.on("GET", MANIFEST_TARGET, [document(OCI_MANIFEST, &image("a"))]);
    let began = Instant::now();
    let mut other = setting.client.clone();
    let later = async {
        while setting.registry.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let manifest = Call::manifest(REGISTRY, "org/app", "v1").outcome(&mut other).await;
        (manifest, began.elapsed())
    };
    let first = Call::tags(REGISTRY, "org/app");
    let (tags, (manifest, waited)) = tokio::join!(first.outcome(&mut setting.client), later);
    assert!(tags.is_ok() && manifest.is_ok(), "{tags:?} {manifest:?}");
    assert!(began.elapsed() >= Duration::from_secs(1) && waited >= Duration::from_secs(1), "{waited:?}");
    assert!(setting.got_expected_requests());
}

#[tokio::test]
async fn a_call_fails_at_once_when_its_deadline_is_before_retry_after() {
    let mut setting = Setting::new().await;
    let limited = Reply::status(429).header("Retry-After", "20");
    setting.registry.on("GET", MANIFEST_TARGET, [limited]);
    let began = Instant::now();
    for _ in 0..2 {
        let Call::Manifest(message) = Call::manifest(REGISTRY, "org/app", "v1") else { panic!() };
        let mut request = Request::new(message);
        request.set_timeout(Duration::from_secs(10));
        let status = setting.client.get_manifest(request).await.unwrap_err();
        let failure = Failure::expect(status, Code::ResourceExhausted, "REGISTRY_RATE_LIMITED", "limited");
        assert!(
            failure.retry_ms().is_some_and(|ms| (15_000..=20_000).contains(&ms)),
            "{:?}",
            failure.details
        );
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(setting.got_expected_requests(), "the second call sent a request");
}

#[tokio::test]
async fn a_rate_limit_of_a_storage_host_does_not_delay_calls_to_the_registry() {
    let (registry, storage) = (ScriptedRegistry::start().await, ScriptedRegistry::start().await);
    let origin = format!("http://{}", storage.address());
    storage.otherwise(|_| Some(Reply::status(429).header("Retry-After", "60")));
    registry.on("GET", MANIFEST_TARGET, [Reply::status(307).header("Location", format!("{origin}/m"))]);
    registry.on("GET", TAGS_TARGET, [tags_page()]);
    let mut settings = settings(REGISTRY, registry.address());
    settings.http.trusted_origins = vec![origin.parse().unwrap()];
    let service = Service::start(vec![settings], Options::default()).await;
    let mut client = service.client().await;
    let limited = Call::manifest(REGISTRY, "org/app", "v1").failure(&mut client).await;
    assert_eq!(limited.status.code(), Code::ResourceExhausted, "{:?}", limited.status);
    assert!(Call::tags(REGISTRY, "org/app").outcome(&mut client).await.is_ok());
}
