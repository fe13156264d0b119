//! Large responses in one message that the caller does not read.

use std::time::{Duration, Instant};

use prost::Message as _;
use rexd::grpc::{StreamLimits, proto::GetManifestResponse};
use serde_json::json;
use tokio::time::sleep;
use tonic::Code;

use crate::{
    PATIENCE,
    caller::{Caller, UnreadResponse, WINDOW_BYTES},
    support::{
        scripted::{Reply, ScriptedRegistry},
        service::{Options, Service, settings},
        status::Failure,
    },
};

const NEVER: Duration = Duration::from_secs(600);
const STALL: Duration = Duration::from_millis(800);
/// There is room for one manifest of 3 MiB, not for two.
const ROOM_FOR_ONE: usize = 4 << 20;
const LARGE_BYTES: usize = 3 << 20;

/// A service in front of a registry with a large and a small manifest.
struct Setting {
    service: Service,
    large: String,
    _registry: ScriptedRegistry,
}

fn image(annotation: &str) -> String {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let config = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": digest, "size": 0 });
    let annotations = json!({ "org.example.text": annotation });
    json!({ "schemaVersion": 2, "config": config, "layers": [], "annotations": annotations }).to_string()
}

impl Setting {
    async fn new(memory_bytes: usize, write_stall: Duration) -> Self {
        let registry = ScriptedRegistry::start().await;
        let numbers = (0..LARGE_BYTES / 8).map(|number| format!("{number:08}"));
        let large = image(&numbers.collect::<String>());
        for (reference, content) in [("large", large.clone()), ("small", image("a"))] {
            let reply = Reply::status(200)
                .header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
                .body(content);
            registry.always("GET", &format!("/v2/org/app/manifests/{reference}"), reply);
        }
        let names: Vec<String> = (0..1000).map(|number| format!("{number:0100}")).collect();
        registry.otherwise(move |request| {
            let (path, _) = request.target.split_once('?')?;
            match path {
                "/v2/org/app/tags/list" => Some(Reply::json(&json!({ "name": "org/app", "tags": names }))),
                "/v2/_catalog" => Some(Reply::json(&json!({ "repositories": names }))),
                _ => None,
            }
        });
        let streams = StreamLimits { max_streams: 1, memory_bytes, write_stall };
        let options = Options { streams, ..Options::default() };
        let service = Service::start(vec![settings("unread.test", registry.address())], options).await;
        Self { service, large, _registry: registry }
    }

    async fn caller(&self) -> Caller {
        Caller::connect(self.service.address).await
    }

    /// Whether a caller who comes now gets the large manifest's first bytes.
    async fn has_room(&self) -> bool {
        match self.caller().await.manifest("large", "60S").await {
            Ok(_) => true,
            Err(status) => {
                let failure = Failure::expect(status, Code::Unavailable, "OVERLOADED", "one too many");
                assert!(failure.retry_ms().is_some_and(|ms| ms > 0), "{:?}", failure.details);
                false
            }
        }
    }

    /// The service gives memory back a moment after the caller's connection said so.
    async fn has_room_soon(&self) {
        let begun = Instant::now();
        while !self.has_room().await {
            assert!(begun.elapsed() < Duration::from_secs(2), "the memory is still held");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn an_unread_response_is_reset_and_its_memory_is_released() {
    let setting = Setting::new(ROOM_FOR_ONE, STALL).await;
    let begun = Instant::now();
    let answer = setting.caller().await.manifest("large", "60S").await.unwrap();
    assert!(!setting.has_room().await, "what nobody reads is counted");
    answer.ends_by_reset().await;
    assert!(begun.elapsed() >= STALL && begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    setting.has_room_soon().await;
}

#[tokio::test]
async fn a_response_whose_last_bytes_are_unread_is_reset() {
    let setting = Setting::new(ROOM_FOR_ONE, STALL).await;
    let mut answer = setting.caller().await.manifest("large", "60S").await.unwrap();
    let first = answer.read(WINDOW_BYTES).await.unwrap();
    let length = 5 + u32::from_be_bytes(first[1..5].try_into().unwrap()) as usize;
    let mut unread = length - WINDOW_BYTES;
    while unread > 100 {
        let next = WINDOW_BYTES.min(unread - 100);
        answer.open_window(next);
        unread -= answer.read(next).await.unwrap().len();
    }
    answer.ends_by_reset().await;
    setting.has_room_soon().await;
}

#[tokio::test]
async fn a_deadline_ends_an_unread_response() {
    let setting = Setting::new(ROOM_FOR_ONE, NEVER).await;
    let begun = Instant::now();
    let answer = setting.caller().await.manifest("large", "700m").await.unwrap();
    answer.ends_by_reset().await;
    assert!(begun.elapsed() >= Duration::from_millis(700), "{:?}", begun.elapsed());
    setting.has_room_soon().await;
}

#[tokio::test]
async fn a_slow_reader_gets_every_byte() {
    let setting = Setting::new(ROOM_FOR_ONE, STALL).await;
    let begun = Instant::now();
    let answer = setting.caller().await.manifest("large", "60S").await.unwrap();
    let message = answer.read_slowly(STALL / 10).await;
    assert!(begun.elapsed() > STALL * 3, "it took longer than anybody may stand still");
    let manifest = GetManifestResponse::decode(message.as_slice()).unwrap();
    assert!(manifest.content == setting.large, "the bytes are the manifest's");
    setting.has_room_soon().await;
}

#[tokio::test]
async fn a_response_larger_than_the_memory_takes_all_of_it_and_small_ones_are_served() {
    let setting = Setting::new(LARGE_BYTES / 2, NEVER).await;
    let caller = setting.caller().await;
    let held = caller.manifest("large", "60S").await.unwrap();
    assert!(!setting.has_room().await);
    for _ in 0..10 {
        let message = caller.manifest("small", "60S").await.unwrap().read_slowly(Duration::ZERO).await;
        assert_eq!(GetManifestResponse::decode(message.as_slice()).unwrap().content, image("a"));
    }
    drop(held);
    setting.has_room_soon().await;
}

#[tokio::test]
async fn responses_over_the_memory_limit_are_refused() {
    let setting = Setting::new(3 * ROOM_FOR_ONE, NEVER).await;
    let caller = setting.caller().await;
    let mut held: Vec<UnreadResponse> = Vec::new();
    while held.len() < 20
        && let Ok(answer) = caller.manifest("large", "60S").await
    {
        held.push(answer);
    }
    assert_eq!(held.len(), 3, "3 × 3 MiB, and a little each, fit into 12 MiB");
    assert!(!setting.has_room().await);
    held.pop();
    setting.has_room_soon().await;
}

#[tokio::test]
async fn pages_count_like_manifests() {
    let setting = Setting::new(128 << 10, NEVER).await;
    let caller = setting.caller().await;
    let held = caller.tags().await.unwrap();
    let refused = caller.catalog().await.unwrap_err();
    Failure::expect(refused, Code::Unavailable, "OVERLOADED", "a catalog beside tags");
    drop(held);
    let begun = Instant::now();
    let held = loop {
        match caller.catalog().await {
            Ok(answer) => break answer,
            Err(status) => assert!(begun.elapsed() < PATIENCE, "{status:?}"),
        }
    };
    let refused = caller.tags().await.unwrap_err();
    Failure::expect(refused, Code::Unavailable, "OVERLOADED", "tags beside a catalog");
    drop(held);
}
