//! What the process reports about its calls: spans over OTLP, in the trace that the caller's metadata names, and the log.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod collector;
mod levels;
mod lines;
mod metrics;
mod process;
#[path = "../support/mod.rs"]
mod support;

use rexd::{
    demo::APP,
    grpc::proto::{PingRequest, StreamBlobRequest, stream_blob_response::Frame},
};

use self::{
    collector::{Collector, Span},
    process::Service,
    support::fault::{Fault, FaultProxy, When},
};

const TRACE_ID: [u8; 16] =
    [0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36];
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A request in the caller's trace.
fn in_trace<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("traceparent", TRACEPARENT.parse().unwrap());
    request
}

/// The repository and the digest of the sample's largest blob.
fn largest_blob() -> (String, String) {
    let sample = support::sample();
    let blobs = sample.repository(APP).unwrap().blobs();
    let (digest, _) = blobs.max_by_key(|(_, content)| content.len()).unwrap();
    (APP.to_owned(), digest.to_string())
}

/// Starts the service, pings through it within the caller's trace, and stops it. Returns the spans and the metrics that the
/// collector received.
async fn exported_by_a_ping(endpoint_is_set: bool) -> (Vec<u8>, Vec<u8>) {
    let registry = support::demo_registry().await;
    let collector = Collector::start().await;
    let service = Service::start(registry.address(), endpoint_is_set.then_some(collector.address));
    service.client().await.ping(in_trace(PingRequest::default())).await.unwrap();
    tokio::task::spawn_blocking(|| service.stop()).await.unwrap();
    (collector.bytes(), collector.metrics())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Whether a span named `name` is among the ancestors of `span`.
fn has_ancestor(spans: &[Span], span: &Span, name: &str) -> bool {
    let parent = spans.iter().find(|parent| parent.span_id == span.parent_span_id);
    parent.is_some_and(|parent| parent.name == name || has_ancestor(spans, parent, name))
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_exported_in_the_callers_trace_and_flushed_at_shutdown() {
    let (exported, _) = exported_by_a_ping(true).await;
    assert!(contains(&exported, &TRACE_ID), "the caller's trace id is used");
    for part in ["rexd", "rpc", "upstream", "http.response.status_code"] {
        assert!(contains(&exported, part.as_bytes()), "{part} is exported");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_exported_without_an_endpoint() {
    assert_eq!(exported_by_a_ping(false).await, (Vec::new(), Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_exported_at_shutdown() {
    let (_, metrics) = exported_by_a_ping(true).await;
    for part in ["rexd", "rpc.server.call.duration", "RegistryService/Ping", "demo.local", "process.cpu.time"]
    {
        assert!(contains(&metrics, part.as_bytes()), "{part} is exported");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_that_resumes_a_stream_is_part_of_the_calls_trace() {
    let registry = support::demo_registry().await;
    let proxy = FaultProxy::start(registry.address());
    proxy.inject(When::nth(1, "/blobs/"), Fault::CutAfter(100_000));
    let collector = Collector::start().await;
    let service = Service::start(proxy.address(), Some(collector.address));
    let (repository, digest) = largest_blob();
    let request = StreamBlobRequest { repository, digest, ..StreamBlobRequest::default() };
    let mut stream = service.client().await.stream_blob(in_trace(request)).await.unwrap().into_inner();
    let mut resumes = None;
    while let Some(message) = stream.message().await.unwrap() {
        if let Some(Frame::Trailer(trailer)) = message.frame {
            resumes = Some(trailer.resumes);
        }
    }
    assert_eq!(resumes, Some(1));
    drop(stream);
    tokio::task::spawn_blocking(|| service.stop()).await.unwrap();

    let spans = collector.spans();
    let upstream: Vec<_> = spans.iter().filter(|span| span.name == "upstream").collect();
    assert_eq!(upstream.len(), proxy.connection_log().requests().len(), "a span for each request: {spans:?}");
    for span in upstream {
        assert_eq!(span.trace_id, TRACE_ID, "{span:?}");
        assert!(has_ancestor(&spans, span, "rpc"), "{span:?}");
    }
}
