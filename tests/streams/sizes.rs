//! Blobs whose size the registry announces wrongly, or not at all.

use sha2::Sha256;
use tonic::Code;

use crate::{
    Scripted, digest, noise,
    support::{scripted::Reply, status::Failure},
};

/// A registry that announces 100 bytes more than it sends, and then has nothing after those.
async fn announcing_too_much(content: &[u8], digest: &str) -> Scripted {
    let (scripted, size) = (Scripted::new().await, content.len());
    let whole = Reply::status(200).header("Content-Length", (size + 100).to_string()).body(content);
    let nothing_left = Reply::status(416).header("Content-Range", format!("bytes */{size}"));
    scripted.registry.on(
        "GET",
        &format!("/v2/org/app/blobs/{digest}"),
        [whole, nothing_left.clone(), nothing_left.clone(), nothing_left],
    );
    scripted
}

#[tokio::test]
async fn a_blob_that_is_smaller_than_announced_is_complete_when_its_digest_matches() {
    for size in [1000, 300_000] {
        let blob = noise(size);
        let digest = digest::<Sha256>("sha256", &blob);
        let received = announcing_too_much(&blob, &digest).await.read(&digest, 0, 0).await.unwrap();
        let trailer = received.complete(&blob);
        assert!(trailer.digest_verified);
        assert_eq!(trailer.resumes, 1);
    }
}

#[tokio::test]
async fn a_blob_that_is_smaller_than_announced_is_data_loss_when_its_digest_differs() {
    let blob = noise(1000);
    let digest = digest::<Sha256>("sha256", b"something else");
    let received = announcing_too_much(&blob, &digest).await.read(&digest, 0, 0).await.unwrap();
    assert!(received.trailer.is_none());
    Failure::expect(received.error.unwrap(), Code::DataLoss, "DIGEST_MISMATCH", "other bytes");
}

#[tokio::test]
async fn a_range_that_is_shorter_than_announced_is_data_loss() {
    let blob = noise(1000);
    let digest = digest::<Sha256>("sha256", &blob);
    let mut scripted = Scripted::new().await;
    let part = Reply::status(206)
        .header("Content-Range", "bytes 500-1099/1100")
        .header("Content-Length", "600")
        .body(&blob[500..]);
    let nothing_left = Reply::status(416).header("Content-Range", "bytes */1000");
    scripted.registry.on("GET", &format!("/v2/org/app/blobs/{digest}"), [part, nothing_left]);
    // A part has no digest, so nothing can show that it is complete.
    let received = scripted.read(&digest, 500, 0).await.unwrap();
    assert!(received.trailer.is_none());
    Failure::expect(received.error.unwrap(), Code::DataLoss, "DIGEST_MISMATCH", "a part");
}

/// A response without a length, which ends with its connection.
fn without_length(content: &[u8]) -> Reply {
    let mut bytes = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
    bytes.extend_from_slice(content);
    Reply::Raw(bytes)
}

#[tokio::test]
async fn a_limit_beyond_the_end_of_a_blob_of_unknown_size_verifies_the_whole() {
    for size in [1000, 100_000] {
        let blob = noise(size);
        let digest = digest::<Sha256>("sha256", &blob);
        for limit in [size, size + 1, 10 * size] {
            let mut scripted = Scripted::new().await;
            scripted.registry.always("GET", &format!("/v2/org/app/blobs/{digest}"), without_length(&blob));
            let trailer = scripted.read(&digest, 0, limit).await.unwrap().complete(&blob);
            assert!(trailer.digest_verified, "limit {limit} of {size}");
        }
    }
}

#[tokio::test]
async fn a_limit_beyond_the_end_of_a_corrupt_blob_of_unknown_size_is_data_loss() {
    for size in [1000, 100_000] {
        let blob = noise(size);
        let digest = digest::<Sha256>("sha256", &blob);
        let mut corrupt = blob.clone();
        *corrupt.last_mut().unwrap() ^= 1;
        let mut scripted = Scripted::new().await;
        scripted.registry.always("GET", &format!("/v2/org/app/blobs/{digest}"), without_length(&corrupt));
        let received = scripted.read(&digest, 0, 2 * size).await.unwrap();
        received.broken(&blob, Code::DataLoss, "DIGEST_MISMATCH");
    }
}

#[tokio::test]
async fn a_limit_before_the_end_of_a_blob_of_unknown_size_is_an_unverified_part() {
    for (size, limit) in [(1000, 999), (1000, 1), (100_000, 50_000), (100_000, 99_999)] {
        let blob = noise(size);
        let digest = digest::<Sha256>("sha256", &blob);
        let mut scripted = Scripted::new().await;
        scripted.registry.always("GET", &format!("/v2/org/app/blobs/{digest}"), without_length(&blob));
        let trailer = scripted.read(&digest, 0, limit).await.unwrap().complete(&blob[..limit]);
        assert!(!trailer.digest_verified, "limit {limit} of {size}");
    }
}
