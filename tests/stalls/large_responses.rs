//! Large responses in one message that the caller does not read.

use std::time::{Duration, Instant};

use prost::Message as _;
use rexd::{
    grpc::{StreamLimits, proto::GetManifestResponse},
    memory::MemoryBudget,
};
use serde_json::json;
use tokio::time::sleep;
use tonic::Code;

use crate::{
    PATIENCE,
    caller::{Caller, UnreadResponse, WINDOW_BYTES},
    support::{
        scripted::{Reply, ScriptedRegistry},
        service::{Options, Service, memory_of, settings},
        status::Failure,
    },
};

const NEVER: Duration = Duration::from_secs(600);
const STALL: Duration = Duration::from_millis(800);
const MEMORY: usize = 16 << 20;
/// More bytes than the connections of a test hold.
const CONNECTIONS_BYTES: usize = 100 * 1024;
const LARGE_BYTES: usize = 3 << 20;

/// A service in front of a registry with a large and a small manifest.
struct Setting {
    service: Service,
    large: String,
    memory: MemoryBudget,
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
        let memory = memory_of(memory_bytes);
        let streams = StreamLimits { max_streams: 1, memory: memory.clone(), write_stall };
        let options = Options { streams, ..Options::default() };
        let service = Service::start(vec![settings("unread.test", registry.address())], options).await;
        Self { service, large, memory, _registry: registry }
    }

    async fn caller(&self) -> Caller {
        Caller::connect(self.service.address).await
    }

    /// Opens large manifests that are not read, until there is no memory for another one.
    async fn fill(&self, caller: &Caller) -> Vec<UnreadResponse> {
        let mut held = Vec::new();
        loop {
            match caller.manifest("large", "60S").await {
                Ok(response) => held.push(response),
                Err(status) => {
                    let failure = Failure::expect(status, Code::Unavailable, "OVERLOADED", "one too many");
                    assert!(failure.retry_ms().is_some_and(|ms| ms > 0), "{:?}", failure.details);
                    return held;
                }
            }
        }
    }

    /// Waits until only open connections hold memory. The service releases it a moment after the caller's stream has ended.
    async fn wait_until_released(&self) {
        let begun = Instant::now();
        while self.memory.reserved() > CONNECTIONS_BYTES {
            assert!(
                begun.elapsed() < Duration::from_secs(2),
                "{} bytes are still held",
                self.memory.reserved()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn an_unread_response_is_reset_and_its_memory_is_released() {
    let setting = Setting::new(MEMORY, STALL).await;
    let begun = Instant::now();
    let response = setting.caller().await.manifest("large", "60S").await.unwrap();
    assert!(setting.memory.reserved() > LARGE_BYTES, "an unread response counts");
    response.ends_by_reset().await;
    assert!(begun.elapsed() >= STALL && begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    setting.wait_until_released().await;
}

#[tokio::test]
async fn a_response_whose_last_bytes_are_unread_is_reset() {
    let setting = Setting::new(MEMORY, STALL).await;
    let mut response = setting.caller().await.manifest("large", "60S").await.unwrap();
    let first = response.read(WINDOW_BYTES).await.unwrap();
    let length = 5 + u32::from_be_bytes(first[1..5].try_into().unwrap()) as usize;
    let mut unread = length - WINDOW_BYTES;
    while unread > 100 {
        let next = WINDOW_BYTES.min(unread - 100);
        response.open_window(next);
        unread -= response.read(next).await.unwrap().len();
    }
    response.ends_by_reset().await;
    setting.wait_until_released().await;
}

#[tokio::test]
async fn a_deadline_ends_an_unread_response() {
    let setting = Setting::new(MEMORY, NEVER).await;
    let begun = Instant::now();
    let response = setting.caller().await.manifest("large", "700m").await.unwrap();
    response.ends_by_reset().await;
    assert!(begun.elapsed() >= Duration::from_millis(700), "{:?}", begun.elapsed());
    setting.wait_until_released().await;
}

#[tokio::test]
async fn a_slow_reader_gets_every_byte() {
    let setting = Setting::new(MEMORY, STALL).await;
    let begun = Instant::now();
    let response = setting.caller().await.manifest("large", "60S").await.unwrap();
    let message = response.read_slowly(STALL / 10).await;
    assert!(begun.elapsed() > STALL * 3, "the read took longer than a stall may last");
    let manifest = GetManifestResponse::decode(message.as_slice()).unwrap();
    assert!(manifest.content == setting.large, "the bytes are the manifest's");
    setting.wait_until_released().await;
}

#[tokio::test]
async fn a_response_larger_than_the_memory_is_served_and_small_ones_at_the_same_time() {
    let setting = Setting::new(LARGE_BYTES / 2, NEVER).await;
    let caller = setting.caller().await;
    let held = caller.manifest("large", "60S").await.unwrap();
    for _ in 0..10 {
        let message = caller.manifest("small", "60S").await.unwrap().read_slowly(Duration::ZERO).await;
        assert_eq!(GetManifestResponse::decode(message.as_slice()).unwrap().content, image("a"));
    }
    drop(held);
    setting.wait_until_released().await;
}

#[tokio::test]
async fn small_responses_count_while_they_are_unread() {
    let setting = Setting::new(MEMORY, NEVER).await;
    let caller = Caller::connect_with_window(setting.service.address, 0).await;
    let mut held = Vec::new();
    for number in 1..=10 {
        held.push(caller.manifest("small", "60S").await.unwrap());
        let reserved = setting.memory.reserved();
        assert!(reserved > number * 16 * 1024, "{reserved} bytes for {number} unread responses");
    }
    drop(held);
    setting.wait_until_released().await;
}

#[tokio::test]
async fn responses_over_the_memory_limit_are_refused() {
    let setting = Setting::new(MEMORY, NEVER).await;
    let caller = setting.caller().await;
    let mut held = setting.fill(&caller).await;
    assert_eq!(held.len(), 4, "the memory is enough for 4 of 3 MiB, and not for reading a fifth");
    held.pop();
    let begun = Instant::now();
    while caller.manifest("large", "60S").await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(2), "the memory is still held");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn pages_count_like_manifests() {
    let setting = Setting::new(640 << 10, NEVER).await;
    let caller = setting.caller().await;
    let mut held = Vec::new();
    let refused = loop {
        match caller.tags().await {
            Ok(page) => held.push(page),
            Err(status) => break status,
        }
    };
    assert!((1..10).contains(&held.len()), "{}", held.len());
    Failure::expect(refused, Code::Unavailable, "OVERLOADED", "one page of tags too many");
    let refused = caller.catalog().await.err().unwrap();
    Failure::expect(refused, Code::Unavailable, "OVERLOADED", "a catalog while tags are unread");
    drop(held);
    setting.wait_until_released().await;
    caller.catalog().await.unwrap();
}
