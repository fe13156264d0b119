//! Responses to a range request, or without a length, that the sample registry never sends.

use sha2::Sha256;
use tonic::Code;

use crate::{
    Scripted, digest, noise,
    support::{scripted::Reply, status::Failure},
};

fn sha256(blob: &[u8]) -> String {
    digest::<Sha256>("sha256", blob)
}

async fn responding_with(blob: &[u8], reply: Reply) -> (Scripted, String) {
    let (scripted, digest) = (Scripted::new().await, sha256(blob));
    scripted.registry.always("GET", &format!("/v2/org/app/blobs/{digest}"), reply);
    (scripted, digest)
}

fn partial(content_range: Option<&str>, body: &[u8]) -> Reply {
    let reply = Reply::status(206).body(body);
    match content_range {
        Some(value) => reply.header("Content-Range", value),
        None => reply,
    }
}

#[tokio::test]
async fn a_206_without_the_right_content_range_is_refused_before_any_frame() {
    let blob = noise(1000);
    // The request is for bytes 100 to 199.
    for content_range in [
        None,
        Some(""),
        Some("bytes"),
        Some("bytes */1000"),
        Some("bytes 0-99/1000"),
        Some("bytes 99-198/1000"),
        Some("bytes 101-200/1000"),
        Some("bytes 100-200/1000"),
        Some("bytes 100-999/1000"),
        Some("bytes 199-100/1000"),
        Some("bytes 100-199/150"),
        Some("items 100-199/1000"),
        Some("bytes 100-199"),
    ] {
        let (mut scripted, digest) = responding_with(&blob, partial(content_range, &blob[100..200])).await;
        let status = scripted.read(&digest, 100, 100).await.unwrap_err();
        let context = format!("{content_range:?}");
        Failure::expect(status, Code::Internal, "REGISTRY_INVALID_RESPONSE", &context);
    }
}

#[tokio::test]
async fn a_206_for_the_whole_blob_is_refused_unless_it_is_complete() {
    let blob = noise(1000);
    let (mut scripted, digest) =
        responding_with(&blob, partial(Some("bytes 100-999/1000"), &blob[100..])).await;
    let status = scripted.read(&digest, 0, 0).await.unwrap_err();
    Failure::expect(status, Code::Internal, "REGISTRY_INVALID_RESPONSE", "not the beginning");
    let (mut scripted, digest) = responding_with(&blob, partial(Some("bytes 0-999/1000"), &blob)).await;
    let received = scripted.read(&digest, 0, 0).await.unwrap();
    assert!(received.complete(&blob).digest_verified);
}

#[tokio::test]
async fn a_part_of_a_blob_of_unknown_size_arrives() {
    let blob = noise(1000);
    let (mut scripted, digest) =
        responding_with(&blob, partial(Some("bytes 100-199/*"), &blob[100..200])).await;
    let received = scripted.read(&digest, 100, 100).await.unwrap();
    assert!(!received.complete(&blob[100..200]).digest_verified);
    assert!(!received.header.size_known);
}

/// The body in chunks, or up to the end of the connection.
fn without_length(blob: &[u8]) -> [Reply; 2] {
    let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".to_vec();
    for chunk in blob.chunks(10_000) {
        chunked.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        chunked.extend(chunk);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    let mut closed = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
    closed.extend(blob);
    [Reply::Raw(chunked), Reply::Raw(closed)]
}

#[tokio::test]
async fn a_blob_without_a_length_is_verified() {
    for size in [0, 1, 16 * 1024, 16 * 1024 + 1, 500_000] {
        let blob = noise(size);
        for reply in without_length(&blob) {
            let (mut scripted, digest) = responding_with(&blob, reply).await;
            let received = scripted.read(&digest, 0, 0).await.unwrap();
            assert!(received.complete(&blob).digest_verified, "{size}");
            let header = received.header;
            assert!(!header.size_known && header.length == 0 && header.blob_descriptor.unwrap().size == 0);
        }
    }
}

#[tokio::test]
async fn a_part_of_a_blob_without_a_length_is_the_slice() {
    let blob = noise(50_000);
    for (offset, limit) in
        [(0, 100), (100, 100), (100, 0), (49_999, 0), (49_999, 10), (50_000, 0), (0, 60_000)]
    {
        for reply in without_length(&blob) {
            let (mut scripted, digest) = responding_with(&blob, reply).await;
            let received = scripted.read(&digest, offset, limit).await.unwrap();
            let end = if limit == 0 { blob.len() } else { blob.len().min(offset + limit) };
            assert!(received.error.is_none(), "{offset} {limit}: {:?}", received.error);
            assert!(received.data == blob[offset..end], "{offset} {limit}: {}", received.data.len());
        }
    }
}

#[tokio::test]
async fn a_corrupt_blob_without_a_length_is_never_complete() {
    let blob = noise(500_000);
    for at in [0, blob.len() / 2, blob.len() - 1] {
        let mut corrupt = blob.clone();
        corrupt[at] ^= 1;
        for reply in without_length(&corrupt) {
            let (mut scripted, digest) = responding_with(&blob, reply).await;
            let received = scripted.read(&digest, 0, 0).await.unwrap();
            assert!(received.data.len() < blob.len() && corrupt.starts_with(&received.data));
            let status = received.error.unwrap();
            Failure::expect(status, Code::DataLoss, "DIGEST_MISMATCH", "a flipped bit");
        }
    }
}

#[tokio::test]
async fn a_416_without_a_size_leads_to_a_head_request() {
    let blob = noise(1000);
    let digest = sha256(&blob);
    let target = format!("/v2/org/app/blobs/{digest}");
    for (offset, is_the_end) in [(1000, true), (1001, false)] {
        let mut scripted = Scripted::new().await;
        scripted.registry.on("GET", &target, [Reply::status(416)]);
        scripted.registry.on("HEAD", &target, [Reply::status(200).header("Content-Length", "1000")]);
        let outcome = scripted.read(&digest, offset, 0).await;
        match outcome {
            Ok(received) => assert!(is_the_end && received.complete(b"").bytes_sent == 0),
            Err(status) => {
                assert!(!is_the_end, "{status:?}");
                Failure::expect(status, Code::OutOfRange, "OFFSET_OUT_OF_RANGE", "past the end");
            }
        }
        assert!(scripted.registry.missing().is_empty() && scripted.registry.unexpected().is_empty());
    }
}
