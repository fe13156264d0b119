//! The line of each call, and its request id.

use std::time::Duration;

use rexd::grpc::proto::{GetManifestRequest, ListTagsRequest, PingRequest, StreamBlobRequest};
use serde_json::Value;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::{
    TRACE_ID, in_trace, largest_blob,
    process::Service,
    support::{
        demo_registry,
        fault::{Fault, FaultProxy, When},
    },
};

/// The lines of the calls, in the order of their ends.
fn calls(log: &[Value]) -> Vec<&Value> {
    let is_call = |line: &&Value| matches!(line["message"].as_str(), Some("responded" | "call failed"));
    log.iter().filter(is_call).collect()
}

async fn stop(service: Service) -> Vec<Value> {
    tokio::task::spawn_blocking(|| service.stop()).await.unwrap()
}

/// A request with a request id of its own.
fn with_id<T>(message: T, id: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-request-id", id.parse().unwrap());
    request
}

fn manifest(reference: &str) -> GetManifestRequest {
    let (repository, reference) = ("sample/app".to_owned(), reference.to_owned());
    GetManifestRequest { repository, reference, ..GetManifestRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_one_line_with_what_it_was_about_and_what_it_cost() {
    let registry = demo_registry().await;
    let service = Service::start(registry.address(), None);
    let mut client = service.client().await;
    client.ping(in_trace(PingRequest::default())).await.unwrap();
    client.get_manifest(manifest("v1")).await.unwrap();
    client.get_manifest(manifest("v1")).await.unwrap();
    let (repository, digest) = largest_blob();
    let request = StreamBlobRequest {
        repository: repository.clone(),
        digest: digest.clone(),
        ..StreamBlobRequest::default()
    };
    let mut stream = client.stream_blob(request).await.unwrap().into_inner();
    let mut size = 0;
    while let Some(message) = stream.message().await.unwrap() {
        use rexd::grpc::proto::stream_blob_response::Frame;
        if let Some(Frame::Chunk(chunk)) = message.frame {
            size += chunk.data.len() as u64;
        }
    }
    let missing = client.get_manifest(manifest("missing")).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    drop((client, stream));
    let log = stop(service).await;
    let lines = calls(&log);
    assert_eq!(lines.len(), 5, "{lines:#?}");
    let fields =
        |line: &Value, names: &[&str]| names.iter().map(|name| line[name].clone()).collect::<Vec<_>>();
    let text = |text: &str| Value::from(text);
    assert_eq!(
        fields(lines[0], &["method", "caller", "peer", "registry", "code", "upstream"]),
        [text("Ping"), text("anybody"), text("127.0.0.1"), text("demo.local"), text("Ok"), Value::from(1),]
    );
    for (line, cache, upstream) in [(lines[1], "miss", 1), (lines[2], "revalidated", 1)] {
        assert_eq!(
            fields(line, &["method", "repository", "reference", "cache", "upstream"]),
            [text("GetManifest"), text("sample/app"), text("v1"), text(cache), Value::from(upstream),]
        );
        assert!(line["bytes"].as_u64().unwrap() > 100 && line["first_byte_ms"].is_u64(), "{line}");
    }
    assert_eq!(
        fields(lines[3], &["method", "repository", "reference", "code", "bytes"]),
        [text("StreamBlob"), text(&repository), text(&digest), text("Ok"), Value::from(size),]
    );
    assert_eq!(
        fields(lines[4], &["code", "reason", "level"]),
        [text("NotFound"), text("MANIFEST_UNKNOWN"), text("INFO")]
    );
    assert!(lines[4]["error"].as_str().unwrap().contains("missing"), "{}", lines[4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_names_the_trace_if_traces_are_exported() {
    let registry = demo_registry().await;
    let collector = crate::collector::Collector::start().await;
    let service = Service::start(registry.address(), Some(collector.address));
    service.client().await.ping(in_trace(PingRequest::default())).await.unwrap();
    let log = stop(service).await;
    let hex: String = TRACE_ID.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(calls(&log)[0]["trace_id"], Value::from(hex));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_id_is_in_the_response_the_status_and_the_line() {
    let registry = demo_registry().await;
    let service = Service::start(registry.address(), None);
    let mut client = service.client().await;
    let id_of = |metadata: &tonic::metadata::MetadataMap| {
        metadata.get("x-request-id").unwrap().to_str().unwrap().to_owned()
    };
    let response = client.ping(with_id(PingRequest::default(), "mine-1")).await.unwrap();
    assert_eq!(id_of(response.metadata()), "mine-1");
    let made = id_of(client.ping(PingRequest::default()).await.unwrap().metadata());
    assert_eq!(made.len(), 32);
    let request_info =
        |status: &Status| status.get_error_details().request_info().unwrap().request_id.clone();
    let missing = client.get_manifest(with_id(manifest("missing"), "mine-2")).await.unwrap_err();
    assert_eq!(
        (request_info(&missing), id_of(missing.metadata())),
        ("mine-2".to_owned(), "mine-2".to_owned())
    );
    assert_eq!(
        missing.get_error_details().error_info().unwrap().reason,
        "MANIFEST_UNKNOWN",
        "the other details stay"
    );
    let invalid = ListTagsRequest { repository: "NOT/valid".to_owned(), ..ListTagsRequest::default() };
    let refused = client.list_tags(with_id(invalid, "mine-3")).await.unwrap_err();
    assert_eq!(request_info(&refused), "mine-3");
    let (repository, digest) = largest_blob();
    let request = StreamBlobRequest { repository, digest, ..StreamBlobRequest::default() };
    let stream = client.stream_blob(with_id(request, "mine-4")).await.unwrap();
    assert_eq!(id_of(stream.metadata()), "mine-4");
    drop((client, stream));
    let log = stop(service).await;
    let ids: Vec<_> =
        calls(&log).iter().map(|line| line["span"]["request_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids[..4], ["mine-1", &made, "mine-2", "mine-3"]);
    assert_eq!(ids.len(), 5, "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_its_caller_cancels_is_a_line_too() {
    let registry = demo_registry().await;
    let proxy = FaultProxy::start(registry.address());
    proxy.inject(
        When::always("/blobs/"),
        Fault::StallAfter { bytes: 100_000, pause: Duration::from_secs(3600) },
    );
    let service = Service::start(proxy.address(), None);
    let (repository, digest) = largest_blob();
    let request = StreamBlobRequest { repository, digest, ..StreamBlobRequest::default() };
    let mut stream = service.client().await.stream_blob(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    drop(stream);
    // Its connection ends with it.
    let log = stop(service).await;
    let lines = calls(&log);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(
        (lines[0]["code"].as_str(), lines[0]["level"].as_str()),
        (Some("Cancelled"), Some("INFO")),
        "{}",
        lines[0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_to_the_registry_is_a_line_of_its_call_at_debug() {
    let registry = demo_registry().await;
    let service = Service::start_with(registry.address(), None, &[("REXD_LOG", "rexd=debug")]);
    service.client().await.get_manifest(with_id(manifest("v1"), "mine-5")).await.unwrap();
    let log = stop(service).await;
    let of_the_call = |line: &&Value| {
        line["message"] == "a registry responded" && line.to_string().contains("/v2/sample/app/manifests/v1")
    };
    let line = log.iter().find(of_the_call).unwrap();
    assert_eq!((line["registry"].as_str(), line["status"].as_u64()), (Some("demo.local"), Some(200)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_long_is_logged_while_it_runs() {
    let registry = demo_registry().await;
    let proxy = FaultProxy::start(registry.address());
    proxy.inject(When::always("/manifests/"), Fault::DelayHead(Duration::from_millis(300)));
    let service = Service::start_with(proxy.address(), None, &[("REXD_LOG__SLOW_CALL", "50ms")]);
    let mut client = service.client().await;
    client.get_manifest(with_id(manifest("v1"), "mine-6")).await.unwrap();
    client.ping(PingRequest::default()).await.unwrap();
    drop(client);
    let log = stop(service).await;
    let slow: Vec<_> =
        log.iter().filter(|line| line["message"] == "a call takes long; it is still running").collect();
    assert_eq!(slow.len(), 1, "{log:#?}");
    assert_eq!((slow[0]["level"].as_str(), slow[0]["reference"].as_str()), (Some("WARN"), Some("v1")));
    assert_eq!(slow[0]["span"]["request_id"], "mine-6");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filter_of_the_configuration_is_used() {
    let registry = demo_registry().await;
    let service = Service::start_with(registry.address(), None, &[("REXD_LOG__FILTER", "info,rexd=debug")]);
    service.client().await.ping(PingRequest::default()).await.unwrap();
    let log = stop(service).await;
    assert!(log.iter().any(|line| line["message"] == "a registry responded"), "{log:#?}");
}
