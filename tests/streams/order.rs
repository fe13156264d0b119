//! Streams without faults: their content, and its division into chunks.

use std::sync::Arc;

use bytes::Bytes;
use oci_spec::image::MediaType;
use rexd::{
    demo::{APP, Sample},
    grpc::proto::StreamBlobRequest,
};
use sha2::Sha512;

use crate::{
    Scripted, Setting, digest, large_blob, noise, small_blob,
    support::{scripted::Reply, service::Options},
};

const KIB: usize = 1024;

#[tokio::test]
async fn a_whole_blob_arrives_byte_for_byte_and_verified() {
    let (request, blob) = large_blob();
    let mut setting = Setting::new().await;
    let received = setting.read(request.clone()).await.unwrap();
    let trailer = received.complete(&blob);
    assert!(trailer.digest_verified && trailer.resumes == 0);
    let descriptor = received.header.blob_descriptor.unwrap();
    assert_eq!((descriptor.digest, descriptor.size), (request.digest, blob.len() as i64));
    assert_eq!(descriptor.media_type, "application/octet-stream");
    assert!(received.header.size_known && received.header.length == blob.len() as i64);
    assert_eq!(setting.ranges(), [""], "one request, and no range");
}

#[tokio::test]
async fn chunks_have_the_requested_size_between_4_kib_and_1_mib() {
    let (request, blob) = large_blob();
    let mut setting = Setting::new().await;
    for (requested, most) in [
        (1, 4 * KIB),
        (4 * KIB as i32, 4 * KIB),
        (4 * KIB as i32 + 1, 4 * KIB + 1),
        (100_000, 100_000),
        (KIB as i32 * KIB as i32, KIB * KIB),
        (i32::MAX, KIB * KIB),
        (0, KIB * KIB),
    ] {
        let request = StreamBlobRequest { max_chunk_bytes: requested, limit: 2_000_000, ..request.clone() };
        let received = setting.read(request).await.unwrap();
        received.complete(&blob[..2_000_000]);
        assert!(received.chunks.iter().all(|chunk| *chunk <= most), "{requested}: {:?}", received.chunks);
    }
}

#[tokio::test]
async fn every_blob_of_the_sample_arrives() {
    let sample = crate::support::sample();
    let mut setting = Setting::new().await;
    for repository in sample.repositories() {
        for (digest, blob) in sample.repository(repository).unwrap().blobs() {
            let request =
                StreamBlobRequest { repository: repository.to_owned(), ..crate::of(digest.as_ref()) };
            let received = setting.read(request).await.unwrap();
            assert!(received.complete(blob).digest_verified, "{repository} {digest}");
        }
    }
}

#[tokio::test]
async fn an_empty_blob_is_a_header_and_a_trailer() {
    let mut sample = Sample::default();
    let empty = sample.repository_mut(APP).add_blob(MediaType::ImageLayer, Bytes::new()).unwrap();
    let mut setting = Setting::serving(Arc::new(sample), Options::default()).await;
    let received = setting.read(crate::of(empty.digest().as_ref())).await.unwrap();
    assert!(received.complete(b"").digest_verified && received.chunks.is_empty());
    assert!(received.header.size_known && received.header.length == 0);
}

#[tokio::test]
async fn a_sha512_blob_is_verified_too() {
    let blob = noise(300_000);
    let digest = digest::<Sha512>("sha512", &blob);
    let mut scripted = Scripted::new().await;
    let target = format!("/v2/org/app/blobs/{digest}");
    scripted.registry.on("GET", &target, [Reply::status(200).body(blob.clone())]);
    let received = scripted.read(&digest, 0, 0).await.unwrap();
    assert!(received.complete(&blob).digest_verified);
    assert_eq!(received.header.blob_descriptor.unwrap().digest, digest);
}

#[tokio::test]
async fn many_streams_on_one_connection_do_not_mix() {
    let (request, blob) = large_blob();
    let setting = Setting::new().await;
    let reads = (0..8).map(|number| {
        let (mut client, blob) = (setting.client.clone(), blob.clone());
        let offset = number * 500_000;
        let request = StreamBlobRequest { offset: offset as i64, limit: 1_000_000, ..request.clone() };
        async move {
            let received = crate::Received::read(&mut client, request).await.unwrap();
            received.complete(&blob[offset..offset + 1_000_000])
        }
    });
    futures_util::future::join_all(reads).await;
}

#[tokio::test]
async fn a_limit_of_the_size_or_more_is_the_whole_blob() {
    let (request, blob) = small_blob();
    let mut setting = Setting::new().await;
    for (limit, verified) in [
        (0, true),
        (blob.len(), true),
        (blob.len() + 1, true),
        (usize::MAX >> 1, true),
        (blob.len() - 1, false),
    ] {
        let request = StreamBlobRequest { limit: limit as i64, ..request.clone() };
        let received = setting.read(request).await.unwrap();
        let expected = if limit == 0 { blob.len() } else { limit.min(blob.len()) };
        assert_eq!(received.complete(&blob[..expected]).digest_verified, verified, "limit {limit}");
    }
}
