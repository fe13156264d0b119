//! Registries whose responses break off or lack a size: every read ends, and none ends short with OK.

use std::time::Duration;

use rexd::grpc::proto::StreamBlobRequest;
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::support::{
    call::EMPTY_DIGEST,
    scripted::{Reply, ScriptedRegistry},
    service::{Options, Service, settings},
    status::Failure,
};

const NAME: &str = "incomplete.test";
const TARGET: &str =
    "/v2/org/app/blobs/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Streams the blob, or a part, and returns the bytes and the end.
async fn read(registry: &ScriptedRegistry, offset: i64, limit: i64) -> (usize, Result<(), tonic::Status>) {
    let mut one = settings(NAME, registry.address());
    // A call that holds one permit and waits for another one then fails.
    one.http.max_concurrent_requests = 1;
    one.http.max_concurrent_blobs = 1;
    one.http.header_timeout = Duration::from_secs(5);
    let service = Service::start(vec![one], Options::default()).await;
    let request = StreamBlobRequest {
        repository: "org/app".to_owned(),
        digest: EMPTY_DIGEST.to_owned(),
        offset,
        limit,
        ..StreamBlobRequest::default()
    };
    let mut stream = match service.client().await.stream_blob(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => return (0, Err(status)),
    };
    let mut bytes = 0;
    while let Some(message) = stream.next().await {
        match message {
            Ok(message) => {
                if let Some(rexd::grpc::proto::stream_blob_response::Frame::Chunk(chunk)) = message.frame {
                    bytes += chunk.data.len();
                }
            }
            Err(status) => return (bytes, Err(status)),
        }
    }
    (bytes, Ok(()))
}

#[tokio::test]
async fn a_read_fails_when_every_response_breaks_before_the_first_chunk() {
    let registry = ScriptedRegistry::start().await;
    // Half a chunk: all of it is held back, because the size of the blob is not known.
    let mut broken = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n".to_vec();
    broken.extend([b'x'; 512]);
    registry.always("GET", TARGET, Reply::Raw(broken));
    let ended = tokio::time::timeout(Duration::from_secs(20), read(&registry, 0, 0)).await;
    let (bytes, end) = ended.unwrap();
    Failure::expect(end.unwrap_err(), Code::Unavailable, "REGISTRY_UNREACHABLE", "chunked and cut");
    assert_eq!(bytes, 0);
    assert!(registry.requests().len() <= 5, "{} requests", registry.requests().len());
}

#[tokio::test]
async fn a_head_request_after_a_416_needs_no_second_request_permit() {
    let registry = ScriptedRegistry::start().await;
    registry.always("GET", TARGET, Reply::status(416));
    registry.always("HEAD", TARGET, Reply::status(200).header("content-length", "7"));
    let (_, end) = read(&registry, 9, 0).await;
    Failure::expect(end.unwrap_err(), Code::OutOfRange, "OFFSET_OUT_OF_RANGE", "bare 416");
    let (bytes, end) = read(&registry, 7, 0).await;
    end.unwrap();
    assert_eq!(bytes, 0);
}

#[tokio::test]
async fn a_partial_response_that_ends_early_without_a_size_is_refused() {
    let registry = ScriptedRegistry::start().await;
    let short = Reply::status(206).header("content-range", "bytes 0-99/*").body(vec![0; 100]);
    registry.always("GET", TARGET, short);
    let (bytes, end) = read(&registry, 0, 1000).await;
    Failure::expect(end.unwrap_err(), Code::Internal, "REGISTRY_INVALID_RESPONSE", "short part");
    assert_eq!(bytes, 0);
    let (bytes, end) = read(&registry, 0, 100).await;
    end.unwrap();
    assert_eq!(bytes, 100, "a part that ends where it was requested to is accepted");
}
