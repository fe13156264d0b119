//! Connections to the registry that break during a stream: it continues, or ends with REGISTRY_UNREACHABLE.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rexd::grpc::proto::StreamBlobRequest;
use tonic::Code;

use crate::{
    Setting, large_blob,
    support::{fault::Fault, status::Failure},
};

/// Up to three offsets at which the connection breaks, each counted from the previous break.
fn places(random: &mut StdRng, size: usize) -> Vec<u64> {
    let mut left = size as u64;
    let count = random.random_range(1..=3);
    let next = |_| {
        let place = random.random_range(0..left);
        left -= place;
        place
    };
    (0..count).map(next).collect()
}

#[tokio::test]
async fn a_blob_with_up_to_three_cuts_arrives_whole_and_few_bytes_are_sent_twice() {
    const SEED: u64 = 1;
    let mut random = StdRng::seed_from_u64(SEED);
    let (request, blob) = large_blob();
    for round in 0..20 {
        let places = places(&mut random, blob.len());
        let context = format!("seed {SEED}, round {round}, cuts after {places:?}");
        let faults = places.iter().enumerate().map(|(n, place)| (n + 1, Fault::CutAfter(*place)));
        let mut setting = Setting::with(faults).await;
        let received =
            setting.read(request.clone()).await.unwrap_or_else(|status| panic!("{context}: {status:?}"));
        assert!(received.error.is_none(), "{context}: {:?}", received.error);
        let trailer = received.complete(&blob);
        assert!(
            trailer.digest_verified && trailer.resumes as usize == places.len(),
            "{context}: {trailer:?}"
        );
        assert_eq!(setting.proxy.connection_log().faults(), places.len(), "{context}");
        let fetched: u64 =
            setting.proxy.connection_log().connections().iter().map(|connection| connection.body_sent).sum();
        let twice = fetched - blob.len() as u64;
        assert!(twice * 100 <= blob.len() as u64, "{context}: {twice} bytes were fetched twice");
    }
}

#[tokio::test]
async fn resets_anywhere_leave_the_blob_byte_identical() {
    const SEED: u64 = 2;
    let mut random = StdRng::seed_from_u64(SEED);
    let (request, blob) = large_blob();
    for round in 0..20 {
        let places = places(&mut random, blob.len());
        let faults = places.iter().enumerate().map(|(n, place)| (n + 1, Fault::ResetAfter(*place)));
        let mut setting = Setting::with(faults).await;
        let received = setting.read(request.clone()).await;
        let received = received.unwrap_or_else(|status| panic!("round {round}, {places:?}: {status:?}"));
        assert!(received.error.is_none(), "seed {SEED}, round {round}, {places:?}: {:?}", received.error);
        assert!(received.complete(&blob).digest_verified);
    }
}

#[tokio::test]
async fn the_rest_is_requested_as_a_closed_range_from_where_the_connection_broke() {
    let (request, blob) = large_blob();
    let mut setting = Setting::with([(1, Fault::CutAfter(100_000)), (2, Fault::CutAfter(200_000))]).await;
    setting.read(request).await.unwrap().complete(&blob);
    let last = blob.len() - 1;
    assert_eq!(
        setting.ranges(),
        [String::new(), format!("bytes=100000-{last}"), format!("bytes=300000-{last}")]
    );
}

#[tokio::test]
async fn a_part_of_a_blob_survives_cuts() {
    let (request, blob) = large_blob();
    let request = StreamBlobRequest { offset: 1_000_000, limit: 500_000, ..request };
    let mut setting =
        Setting::with([(1, Fault::CutAfter(1)), (2, Fault::CutAfter(0)), (3, Fault::CutAfter(400_000))])
            .await;
    let received = setting.read(request).await.unwrap();
    assert_eq!(received.complete(&blob[1_000_000..1_500_000]).resumes, 3);
    assert_eq!(
        setting.ranges(),
        ["bytes=1000000-1499999", "bytes=1000001-1499999", "bytes=1000001-1499999", "bytes=1400001-1499999"]
    );
}

#[tokio::test]
async fn a_resume_fails_after_three_attempts_without_a_byte() {
    let (request, blob) = large_blob();
    let dead = (2..20).map(|n| (n, Fault::CutAfter(0)));
    let mut setting = Setting::with(dead.chain([(1, Fault::CutAfter(100_000))])).await;
    let received = setting.read(request).await.unwrap();
    assert_eq!(received.data.len(), 100_000);
    let failure = received.broken(&blob, Code::Unavailable, "REGISTRY_UNREACHABLE");
    assert!(failure.retry_ms().is_some());
    assert_eq!(setting.proxy.connection_log().requests().len(), 4);
}

#[tokio::test]
async fn a_resume_fails_when_the_registry_sends_no_response() {
    let (request, blob) = large_blob();
    for gone in [Vec::new(), b"HTTP/1.1 503 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()]
    {
        let faults = (2..40).map(|n| (n, Fault::Replace(gone.clone())));
        let mut setting = Setting::with(faults.chain([(1, Fault::CutAfter(100_000))])).await;
        let received = setting.read(request.clone()).await.unwrap();
        let reason = if gone.is_empty() { "REGISTRY_UNREACHABLE" } else { "REGISTRY_UNAVAILABLE" };
        received.broken(&blob, Code::Unavailable, reason);
        let requests = setting.proxy.connection_log().requests().len();
        assert!((4..=8).contains(&requests), "{requests} requests");
    }
}

#[tokio::test]
async fn a_resume_waits_for_retry_after() {
    let (request, blob) = large_blob();
    let away =
        b"HTTP/1.1 503 Away\r\nRetry-After: 60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    let faults = (2..40).map(|n| (n, Fault::Replace(away.clone())));
    let mut setting = Setting::with(faults.chain([(1, Fault::CutAfter(100_000))])).await;
    let received = setting.read(request).await.unwrap();
    let failure = received.broken(&blob, Code::Unavailable, "REGISTRY_UNAVAILABLE");
    assert_eq!(failure.retry_ms(), Some(60_000));
    assert_eq!(setting.proxy.connection_log().requests().len(), 2);
}

#[tokio::test]
async fn progress_resets_the_count_of_attempts() {
    // Seven cuts, but never more than two in a row without a byte.
    let (request, blob) = large_blob();
    let places = [1000, 0, 0, 1000, 0, 0, 1000];
    let faults = places.iter().enumerate().map(|(n, place)| (n + 1, Fault::CutAfter(*place)));
    let mut setting = Setting::with(faults).await;
    let received = setting.read(request).await.unwrap();
    assert_eq!(received.complete(&blob).resumes, 7);
}

#[tokio::test]
async fn a_cut_before_the_first_response_byte_fails_the_call_with_a_status() {
    let (request, _) = large_blob();
    let faults = (1..20).map(|n| (n, Fault::Replace(Vec::new())));
    let mut setting = Setting::with(faults).await;
    let status = setting.read(request).await.unwrap_err();
    Failure::expect(status, Code::Unavailable, "REGISTRY_UNREACHABLE", "no header frame");
}
