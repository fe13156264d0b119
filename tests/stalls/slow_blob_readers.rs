//! Callers that read a blob without a pause, but very slowly.

use std::time::Duration;

use rexd::{
    demo::APP,
    grpc::{StreamLimits, proto::StreamBlobRequest},
};
use tokio::time::{Instant, sleep};

use crate::{
    caller::{Caller, WINDOW_BYTES},
    support::{
        self,
        fault::FaultProxy,
        service::{Options, Service, memory_of, settings},
    },
};

/// The time over which the rate is measured.
const WRITE_STALL: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_caller_that_reads_slowly_gives_its_connection_to_the_registry_back_and_goes_on() {
    let registry = support::demo_registry().await;
    let proxy = FaultProxy::start(registry.address());
    let streams = StreamLimits { max_streams: 1, memory: memory_of(1 << 20), write_stall: WRITE_STALL };
    let options = Options { streams, ..Options::default() };
    let service = Service::start(vec![settings("demo.local", proxy.address())], options).await;
    let sample = support::sample();
    let (digest, _) =
        sample.repository(APP).unwrap().blobs().max_by_key(|(_, content)| content.len()).unwrap();
    let caller = Caller::connect(service.address).await;
    let request = StreamBlobRequest {
        repository: APP.to_owned(),
        digest: digest.to_string(),
        // A step every 400 ms, so that the stream never looks stalled.
        max_chunk_bytes: 4096,
        ..StreamBlobRequest::default()
    };
    let mut response = caller.blob(request).await.unwrap();
    response.read(WINDOW_BYTES).await.unwrap();
    let log = proxy.connection_log();
    let began = Instant::now();
    // The first window contains what the caller's window took at once; at the latest the third one is slow.
    while log.connections().iter().any(|one| one.closed.is_none()) {
        assert!(began.elapsed() < WRITE_STALL * 5, "the connection is open, though its reader is slow");
        response.open_window(1024);
        response.read(1024).await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    // Soon it needs more than h2 holds, which comes over another connection.
    let before = log.connections().len();
    for _ in 0..8 {
        response.open_window(WINDOW_BYTES);
        response.read(WINDOW_BYTES).await.unwrap();
    }
    assert!(log.connections().len() > before, "the stream has resumed");
}
