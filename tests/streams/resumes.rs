//! Responses to a request that resumes a blob: the registry ignores the range, or has another blob now, or none.

use sha2::Sha256;
use tonic::Code;

use crate::{
    Scripted, Setting, digest, large_blob, noise,
    support::{fault::Fault, scripted::Reply},
};

#[tokio::test]
async fn a_resume_whose_range_is_ignored_skips_the_bytes_before_it_once() {
    let (request, blob) = large_blob();
    let mut setting = Setting::with([(1, Fault::CutAfter(3_000_000)), (2, Fault::IgnoreRange)]).await;
    let received = setting.read(request.clone()).await.unwrap();
    assert_eq!(received.complete(&blob).resumes, 1);
    let again = [
        (1, Fault::CutAfter(3_000_000)),
        (2, Fault::IgnoreRange),
        (2, Fault::CutAfter(5_000_000)),
        (3, Fault::IgnoreRange),
    ];
    let mut setting = Setting::with(again).await;
    let received = setting.read(request).await.unwrap();
    assert_eq!(received.data.len(), 5_000_000);
    received.broken(&blob, Code::Internal, "REGISTRY_INVALID_RESPONSE");
    assert_eq!(setting.proxy.connection_log().requests().len(), 3);
}

#[tokio::test]
async fn a_resumed_blob_of_another_size_is_data_loss_and_of_another_range_refused() {
    let (request, blob) = large_blob();
    let (last, size) = (blob.len() - 1, blob.len());
    for (content_range, code, reason) in [
        (format!("bytes 100000-{last}/{}", size + 1), Code::DataLoss, "DIGEST_MISMATCH"),
        (format!("bytes 99999-{last}/{size}"), Code::Internal, "REGISTRY_INVALID_RESPONSE"),
        (format!("bytes 0-{last}/{size}"), Code::Internal, "REGISTRY_INVALID_RESPONSE"),
    ] {
        let faults = [(1, Fault::CutAfter(100_000)), (2, Fault::SetHeader("content-range", content_range))];
        let mut setting = Setting::with(faults).await;
        let received = setting.read(request.clone()).await.unwrap();
        assert_eq!(received.data.len(), 100_000);
        received.broken(&blob, code, reason);
    }
}

#[tokio::test]
async fn a_blob_that_is_gone_when_it_is_resumed_is_not_found() {
    let (request, blob) = large_blob();
    let gone = b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    let mut setting = Setting::with([(1, Fault::CutAfter(100_000)), (2, Fault::Replace(gone))]).await;
    let received = setting.read(request).await.unwrap();
    received.broken(&blob, Code::NotFound, "BLOB_UNKNOWN");
}

#[tokio::test]
async fn a_chunked_body_cut_short_is_resumed() {
    let blob = noise(300_000);
    let digest = digest::<Sha256>("sha256", &blob);
    let mut scripted = Scripted::new().await;
    let target = format!("/v2/org/app/blobs/{digest}");
    let mut cut =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n186a0\r\n".to_vec();
    cut.extend(&blob[..90_000]);
    scripted.registry.on("GET", &target, [Reply::Raw(cut)]);
    let whole = blob.clone();
    scripted.registry.otherwise(move |request| {
        let from: usize = request.header("range")?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()?;
        let content_range = format!("bytes {from}-{}/{}", whole.len() - 1, whole.len());
        Some(Reply::status(206).header("Content-Range", content_range).body(&whole[from..]))
    });
    let received = scripted.read(&digest, 0, 0).await.unwrap();
    let trailer = received.complete(&blob);
    assert!(trailer.digest_verified && trailer.resumes == 1, "{trailer:?}");
}
