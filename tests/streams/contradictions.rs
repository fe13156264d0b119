//! Responses that contradict the request, themselves, or the response before: none becomes bytes of an OK answer.

use sha2::Sha256;
use tonic::Code;

use crate::{
    Scripted, digest, noise,
    received::Received,
    support::{scripted::Reply, status::Failure},
};

struct Scene {
    blob: Vec<u8>,
    digest: String,
    scripted: Scripted,
}

impl Scene {
    /// A registry whose responses for a blob of 1000 bytes are these, one for each request, the last one again and again.
    async fn new(replies: impl FnOnce(&[u8]) -> Vec<Reply>) -> Self {
        let (blob, scripted) = (noise(1000), Scripted::new().await);
        let digest = digest::<Sha256>("sha256", &blob);
        let (target, mut replies) = (format!("/v2/org/app/blobs/{digest}"), replies(&blob));
        let last = replies.pop().unwrap();
        scripted.registry.on("GET", &target, replies);
        scripted.registry.always("GET", &target, last);
        Self { blob, digest, scripted }
    }

    async fn read(&mut self, offset: usize, limit: usize) -> Result<Received, tonic::Status> {
        self.scripted.read(&self.digest, offset, limit).await
    }

    /// Neither the whole nor a part may be read.
    async fn refuses(&mut self, offset: usize, limit: usize, context: &str) {
        let status = self.read(offset, limit).await.unwrap_err();
        Failure::expect(status, Code::Internal, "REGISTRY_INVALID_RESPONSE", context);
    }
}

/// The head of a response with a chunked body, and the beginning of that body. The connection closes in the middle of it.
fn cut(head: &str, body: &[u8]) -> Reply {
    let mut bytes = format!(
        "HTTP/1.1 {head}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{:x}\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend(body);
    bytes.extend(b"\r\n");
    Reply::Raw(bytes)
}

/// The same, and the body ends there.
fn chunked(head: &str, body: &[u8]) -> Reply {
    let Reply::Raw(mut bytes) = cut(head, body) else { unreachable!() };
    bytes.extend(b"0\r\n\r\n");
    Reply::Raw(bytes)
}

fn partial(content_range: &str, body: &[u8]) -> Reply {
    Reply::status(206).header("Content-Range", content_range).body(body)
}

#[tokio::test]
async fn a_success_other_than_200_and_206_is_refused() {
    for status in [201, 202, 203, 205, 207, 226] {
        for (offset, limit) in [(0, 0), (0, 10), (5, 0), (5, 10)] {
            let mut scene = Scene::new(|blob| vec![Reply::status(status).body(blob)]).await;
            scene.refuses(offset, limit, &format!("{status} to {offset}, {limit}")).await;
        }
    }
    for (offset, limit) in [(0, 0), (0, 10), (5, 0), (5, 10)] {
        let empty = Reply::Raw(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_vec());
        Scene::new(|_| vec![empty]).await.refuses(offset, limit, &format!("204 to {offset}, {limit}")).await;
    }
}

#[tokio::test]
async fn a_part_whose_length_is_not_that_of_its_content_range_is_refused() {
    // The whole blob, labelled as a part: its first bytes are not those that were asked for.
    Scene::new(|blob| vec![partial("bytes 500-599/1000", blob)]).await.refuses(500, 100, "whole").await;
    Scene::new(|blob| vec![partial("bytes 500-599/*", blob)]).await.refuses(500, 100, "unknown size").await;
    Scene::new(|blob| vec![partial("bytes 500-549/1000", &blob[500..600])])
        .await
        .refuses(500, 100, "long")
        .await;
    Scene::new(|blob| vec![partial("bytes 500-599/1000", &blob[500..550])])
        .await
        .refuses(500, 100, "short")
        .await;
}

#[tokio::test]
async fn a_part_without_a_length_may_not_be_longer_than_its_content_range() {
    for (label, asked) in
        [("500-599/1000", 100), ("500-549/1000", 100), ("500-599/*", 100), ("500-999/1000", 0)]
    {
        let head = format!("206 Partial Content\r\nContent-Range: bytes {label}");
        let mut scene = Scene::new(|blob| vec![chunked(&head, blob)]).await;
        let received = scene.read(500, asked).await.unwrap();
        assert_eq!(received.data, b"", "{label}");
        received.broken(&scene.blob, Code::Internal, "REGISTRY_INVALID_RESPONSE");
    }
}

#[tokio::test]
async fn a_part_that_is_shorter_than_the_requested_one_is_continued() {
    let mut scene = Scene::new(|blob| {
        vec![partial("bytes 500-549/1000", &blob[500..550]), partial("bytes 550-599/1000", &blob[550..600])]
    })
    .await;
    let received = scene.read(500, 100).await.unwrap();
    assert!(!received.complete(&scene.blob[500..600]).digest_verified);
}

#[tokio::test]
async fn a_part_with_the_limit_of_a_blob_of_unknown_size_is_not_called_verified() {
    let mut scene = Scene::new(|blob| vec![partial("bytes 0-999/*", blob)]).await;
    let received = scene.read(0, 1000).await.unwrap();
    assert!(!received.complete(&scene.blob).digest_verified);
    assert!(!received.header.size_known);
}

#[tokio::test]
async fn a_416_for_bytes_that_the_blob_has_is_an_invalid_response() {
    let refusal = || Reply::status(416).header("Content-Range", "bytes */1000");
    Scene::new(|_| vec![refusal()]).await.refuses(500, 0, "first request").await;
    let first_half = |blob: &[u8]| Reply::status(200).header("Content-Length", "1000").body(&blob[..500]);
    let mut scene = Scene::new(|blob| vec![first_half(blob), refusal()]).await;
    let received = scene.read(0, 0).await.unwrap();
    assert_eq!(received.data.len(), 500);
    received.broken(&scene.blob, Code::Internal, "REGISTRY_INVALID_RESPONSE");
}

/// What comes when the first part of a read is followed by this.
async fn resumed_by(
    first: Reply,
    offset: usize,
    limit: usize,
    next: impl FnOnce(&[u8]) -> Reply,
) -> Received {
    let mut scene = Scene::new(|blob| vec![first, next(blob)]).await;
    scene.read(offset, limit).await.unwrap()
}

#[tokio::test]
async fn a_blob_that_has_become_shorter_than_what_was_sent_is_data_loss() {
    // 16 KiB are held back while the size is not known, so more than that has to arrive.
    let blob = noise(100_000);
    let digest = digest::<Sha256>("sha256", &blob);
    let target = format!("/v2/org/app/blobs/{digest}");
    let shorter = [Reply::status(200).body(&blob[..50_000]), chunked("200 OK", &blob[..50_000])];
    for (way, next) in shorter.into_iter().enumerate() {
        let mut scripted = Scripted::new().await;
        scripted.registry.on("GET", &target, [cut("200 OK", &blob[..80_000]), next]);
        let received = scripted.read(&digest, 0, 0).await.unwrap();
        assert!(received.data.len() > 50_000, "{way}: {}", received.data.len());
        received.broken(&blob, Code::DataLoss, "DIGEST_MISMATCH");
    }
}

#[tokio::test]
async fn a_size_that_is_told_late_and_is_before_the_announced_end_is_data_loss() {
    for (label, length) in [("bytes 150-179/180", 30), ("bytes 150-170/180", 21)] {
        let blob = noise(1000);
        let first = cut("206 Partial Content\r\nContent-Range: bytes 100-199/*", &blob[100..150]);
        let next = |blob: &[u8]| partial(label, &blob[150..150 + length]);
        let received = resumed_by(first, 100, 100, next).await;
        assert_eq!((received.header.length, received.data.len()), (100, 50), "{label}");
        received.broken(&blob[..200], Code::DataLoss, "DIGEST_MISMATCH");
    }
    let blob = noise(1000);
    let first = cut("206 Partial Content\r\nContent-Range: bytes 100-199/*", &blob[100..150]);
    let received = resumed_by(first, 100, 100, |blob| Reply::status(200).body(&blob[..180])).await;
    received.broken(&blob[..200], Code::DataLoss, "DIGEST_MISMATCH");
}

#[tokio::test]
async fn a_size_that_changes_from_resume_to_resume_is_data_loss() {
    let blob = noise(1000);
    let mut scene = Scene::new(|blob| {
        vec![
            cut("206 Partial Content\r\nContent-Range: bytes 100-199/1000", &blob[100..150]),
            cut("206 Partial Content\r\nContent-Range: bytes 150-199/1000", &blob[150..160]),
            partial("bytes 160-199/1001", &blob[160..200]),
        ]
    })
    .await;
    let received = scene.read(100, 100).await.unwrap();
    assert_eq!(received.data.len(), 60);
    received.broken(&blob[..200], Code::DataLoss, "DIGEST_MISMATCH");
}

#[tokio::test]
async fn resumes_that_bring_one_byte_each_come_to_an_end() {
    let blob = noise(1000);
    let mut scripted = Scripted::new().await;
    let (digest, bytes) = (digest::<Sha256>("sha256", &blob), blob.clone());
    scripted.registry.otherwise(move |request| {
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
        let from: usize = range.and_then(|range| range.split('-').next()?.parse().ok()).unwrap_or(0);
        let label = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        let length = (bytes.len() - from).to_string();
        Some(partial(&label, &bytes[from..from + 1]).header("Content-Length", length))
    });
    let received = scripted.read(&digest, 0, 0).await.unwrap();
    let requests = scripted.registry.requests().len();
    assert!((10..100).contains(&requests), "{requests} requests");
    received.broken(&blob, Code::Unavailable, "REGISTRY_UNREACHABLE");
}
