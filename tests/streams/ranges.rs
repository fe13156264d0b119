//! Parts of a blob: `offset` and `limit`, from registries that support ranges and from those that do not.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rexd::grpc::proto::StreamBlobRequest;
use tonic::Code;

use crate::{
    Setting, large_blob, small_blob,
    support::{
        fault::{Fault, When},
        status::Failure,
    },
};

fn part(request: &StreamBlobRequest, offset: usize, limit: usize) -> StreamBlobRequest {
    StreamBlobRequest { offset: offset as i64, limit: limit as i64, ..request.clone() }
}

/// The bytes that `offset` and `limit` select.
fn slice(blob: &[u8], offset: usize, limit: usize) -> &[u8] {
    let end = if limit == 0 { blob.len() } else { offset.saturating_add(limit).min(blob.len()) };
    &blob[offset..end]
}

/// Reads parts at every edge of a small blob.
async fn reads_every_edge(setting: &mut Setting) {
    let (request, blob) = small_blob();
    let size = blob.len();
    for offset in [0, 1, size / 2, size - 1, size] {
        for limit in [0, 1, 2, size - 1, size, size + 1, i64::MAX as usize] {
            let received = setting.read(part(&request, offset, limit)).await.unwrap();
            let expected = slice(&blob, offset, limit);
            let trailer = received.complete(expected);
            let whole = expected.len() == size;
            assert_eq!(trailer.digest_verified, whole, "offset {offset}, limit {limit}");
            let header = received.header;
            assert!(header.size_known && header.length == expected.len() as i64, "{header:?}");
            assert_eq!(header.blob_descriptor.unwrap().size, size as i64);
        }
    }
}

async fn refuses_to_begin_past_the_end(setting: &mut Setting) {
    let (request, blob) = small_blob();
    for offset in [blob.len() + 1, blob.len() * 2, i64::MAX as usize] {
        for limit in [0, 1, i64::MAX as usize] {
            let status = setting.read(part(&request, offset, limit)).await.unwrap_err();
            let failure = Failure::expect(
                status,
                Code::OutOfRange,
                "OFFSET_OUT_OF_RANGE",
                &format!("{offset} {limit}"),
            );
            assert_eq!(failure.fields(), ["offset"]);
            let size = format!("{} bytes", blob.len());
            assert!(failure.status.message().contains(&size), "{:?}", failure.status);
        }
    }
}

#[tokio::test]
async fn every_edge_is_right_from_a_registry_that_supports_ranges() {
    let mut setting = Setting::new().await;
    reads_every_edge(&mut setting).await;
    refuses_to_begin_past_the_end(&mut setting).await;
}

#[tokio::test]
async fn every_edge_is_right_from_a_registry_that_ignores_ranges() {
    let mut setting = Setting::new().await;
    setting.proxy.inject(When::always("/blobs/"), Fault::IgnoreRange);
    reads_every_edge(&mut setting).await;
    refuses_to_begin_past_the_end(&mut setting).await;
}

#[tokio::test]
async fn every_edge_is_right_without_accept_ranges() {
    let mut setting = Setting::new().await;
    setting.proxy.inject(When::always("/blobs/"), Fault::DropHeader("accept-ranges"));
    reads_every_edge(&mut setting).await;
}

#[tokio::test]
async fn a_part_is_requested_as_a_range_and_a_limited_one_as_a_closed_range() {
    let (request, blob) = large_blob();
    let mut setting = Setting::new().await;
    for (offset, limit) in [(1000, 500), (0, 500), (blob.len() - 10, 0)] {
        setting.read(part(&request, offset, limit)).await.unwrap();
    }
    let last = format!("bytes={}-", blob.len() - 10);
    assert_eq!(setting.ranges(), ["bytes=1000-1499", "bytes=0-499", last.as_str()]);
}

#[tokio::test]
async fn only_the_requested_part_of_a_large_blob_is_fetched() {
    let (request, blob) = large_blob();
    let mut setting = Setting::new().await;
    let received = setting.read(part(&request, 1_000_000, 10_000)).await.unwrap();
    received.complete(&blob[1_000_000..1_010_000]);
    let fetched: u64 =
        setting.proxy.connection_log().connections().iter().map(|connection| connection.body_sent).sum();
    assert_eq!(fetched, 10_000);
}

#[tokio::test]
async fn any_part_in_any_chunks_is_the_slice_of_the_blob() {
    const SEED: u64 = 20;
    let mut random = StdRng::seed_from_u64(SEED);
    let (request, blob) = large_blob();
    let mut setting = Setting::new().await;
    for round in 0..200 {
        if round == 150 {
            setting.proxy.inject(When::always("/blobs/"), Fault::IgnoreRange);
        }
        let offset = random.random_range(0..=blob.len());
        let limit = match random.random_range(0..4) {
            0 => 0,
            1 => random.random_range(1..=100),
            _ => random.random_range(1..=400_000),
        };
        // To the end of a large blob, mostly from near the end.
        let offset = if limit == 0 && round % 10 != 0 { blob.len() - offset % 100_000 } else { offset };
        let request = StreamBlobRequest {
            max_chunk_bytes: random.random_range(0..=1 << 20),
            ..part(&request, offset, limit)
        };
        let context = format!("seed {SEED}, round {round}: {request:?}");
        let received = setting.read(request).await.unwrap_or_else(|status| panic!("{context}: {status:?}"));
        assert!(received.data == slice(&blob, offset, limit) && received.error.is_none(), "{context}");
    }
}
