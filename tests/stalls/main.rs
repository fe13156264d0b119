//! Callers that stop reading: what their streams and responses hold, and when they end.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod caller;
mod large_responses;
mod slow_blob_readers;
#[path = "../support/mod.rs"]
mod support;
mod unread_sockets;

use std::time::{Duration, Instant};

use rexd::{
    demo::APP,
    grpc::{
        StreamLimits,
        proto::{StreamBlobRequest, StreamBlobResponse, stream_blob_response::Frame},
    },
};
use support::{
    fault::FaultProxy,
    service::{Options, Service, memory_of, settings},
};
use tokio_stream::StreamExt as _;
use tonic::{Code, Streaming};

/// No test waits longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stream over the sample's largest blob, opened and read up to its header, through a proxy that logs connections.
struct StalledStream {
    service: Service,
    proxy: FaultProxy,
    _registry: rexd::demo::DemoRegistry,
    content: bytes::Bytes,
    stream: Streaming<StreamBlobResponse>,
}

impl StalledStream {
    async fn new(write_stall: Duration, deadline: Option<Duration>) -> Self {
        let registry = support::demo_registry().await;
        let proxy = FaultProxy::start(registry.address());
        let streams = StreamLimits { max_streams: 1, memory: memory_of(1 << 20), write_stall };
        let options = Options { streams, ..Options::default() };
        let service = Service::start(vec![settings("demo.local", proxy.address())], options).await;
        let sample = support::sample();
        let blobs = sample.repository(APP).unwrap().blobs();
        let (digest, content) = blobs.max_by_key(|(_, content)| content.len()).unwrap();
        let mut request = tonic::Request::new(StreamBlobRequest {
            repository: APP.to_owned(),
            digest: digest.to_string(),
            ..StreamBlobRequest::default()
        });
        if let Some(deadline) = deadline {
            // Only as metadata: with a timer of its own, the caller would end the call before the service does.
            let value = format!("{}m", deadline.as_millis());
            request.metadata_mut().insert("grpc-timeout", value.parse().unwrap());
        }
        let mut stream = service.client().await.stream_blob(request).await.unwrap().into_inner();
        let first = stream.next().await.unwrap().unwrap();
        assert!(matches!(first.frame, Some(Frame::Header(_))));
        Self { service, proxy, _registry: registry, content: content.clone(), stream }
    }

    /// Waits until no connection to the registry is open; fails the test after `limit`.
    async fn closes_the_connection_within(&self, limit: Duration) {
        let closed = |connections: &[support::connection_log::Connection]| {
            connections.iter().all(|one| one.closed.is_some())
        };
        self.proxy.connection_log().wait_for(limit, closed).await;
    }
}

#[tokio::test]
async fn a_stalled_reader_holds_no_connection_and_later_gets_every_byte() {
    let mut stalled = StalledStream::new(Duration::from_secs(60), None).await;
    stalled.closes_the_connection_within(Duration::from_secs(8)).await;
    let mut received = Vec::new();
    let mut resumes = None;
    while let Some(message) = stalled.stream.next().await {
        match message.unwrap().frame.unwrap() {
            Frame::Chunk(chunk) => {
                assert_eq!(chunk.offset as usize, received.len());
                received.extend_from_slice(&chunk.data);
            }
            Frame::Trailer(trailer) => {
                assert!(trailer.digest_verified);
                resumes = Some(trailer.resumes);
            }
            Frame::Header(_) => panic!("a second header"),
        }
    }
    assert!(received == stalled.content, "the bytes are the blob's");
    assert_eq!(resumes, Some(0), "a pause of the caller is not a lost connection");
}

#[tokio::test]
async fn a_reader_that_stalls_too_long_is_reset_and_its_permit_is_released() {
    let mut stalled = StalledStream::new(Duration::from_secs(1), None).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let again = StreamBlobRequest {
        repository: APP.to_owned(),
        digest: format!("sha256:{}", "0".repeat(64)),
        ..StreamBlobRequest::default()
    };
    let status = stalled.service.client().await.stream_blob(again).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "the only permit was free again: {status:?}");
    let end = loop {
        match stalled.stream.next().await {
            Some(Ok(_)) => {}
            end => break end,
        }
    };
    assert!(end.is_some_and(|end| end.is_err()), "the stream ended with a status other than OK");
}

#[tokio::test]
async fn a_deadline_ends_a_stream_that_nobody_reads() {
    let began = Instant::now();
    let stalled = StalledStream::new(Duration::from_secs(60), Some(Duration::from_millis(500))).await;
    stalled.closes_the_connection_within(Duration::from_secs(2)).await;
    assert!(began.elapsed() >= Duration::from_millis(400));
}
