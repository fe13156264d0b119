//! The number of concurrent streams: a stream holds its permit exactly as long as it lives.

use std::time::Duration;

use rexd::grpc::proto::registry_service_client::RegistryServiceClient;
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::{
    PATIENCE, Setting, large_blob,
    received::begin,
    small_blob,
    support::{
        fault::{Fault, When},
        service::Options,
        service::memory_of,
        status::Failure,
    },
};

type Stream = Streaming<rexd::grpc::proto::StreamBlobResponse>;

/// Opens a stream of the large blob, and reads its header.
async fn open(setting: &Setting) -> Result<Stream, Status> {
    open_with(setting.client.clone()).await
}

/// The same on a connection of its own, for a stream that is held and not read: it fills its window, and a few of them would
/// fill the window of a connection that they share, so that no message of a further stream arrived.
async fn hold(setting: &Setting) -> Result<Stream, Status> {
    open_with(setting.service.client().await).await
}

async fn open_with(mut client: RegistryServiceClient<Channel>) -> Result<Stream, Status> {
    let (request, _) = large_blob();
    let mut stream = client.stream_blob(request).await?.into_inner();
    begin(&mut stream).await;
    Ok(stream)
}

fn is_overloaded(status: Status) {
    let failure = Failure::expect(status, Code::Unavailable, "OVERLOADED", "one stream too many");
    assert!(failure.retry_ms().is_some_and(|ms| ms > 0), "{:?}", failure.details);
}

#[tokio::test]
async fn a_stream_over_the_limit_is_refused_without_a_request_to_the_registry() {
    let setting = Setting::limited_to(2).await;
    let held = [hold(&setting).await.unwrap(), hold(&setting).await.unwrap()];
    let before = setting.proxy.connection_log().connections().len();
    for _ in 0..10 {
        is_overloaded(open(&setting).await.unwrap_err());
    }
    assert_eq!(setting.proxy.connection_log().connections().len(), before);
    drop(held);
}

#[tokio::test]
async fn the_memory_limit_refuses_streams_as_the_stream_limit_does() {
    let mut options = Options::default();
    // Each stream takes 256 KiB, and its call some more.
    options.streams.memory = memory_of(4 * 256 * 1024);
    let setting = Setting::serving(crate::support::sample(), options).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(hold(&setting).await.unwrap());
    }
    is_overloaded(open(&setting).await.unwrap_err());
}

#[tokio::test]
async fn a_permit_is_released_at_the_end_and_at_every_failure() {
    let mut setting = Setting::limited_to(1).await;
    let (small, content) = small_blob();
    let missing = crate::of(crate::support::call::EMPTY_DIGEST);
    for _ in 0..20 {
        setting.read(small.clone()).await.unwrap().complete(&content);
        assert_eq!(setting.read(missing.clone()).await.unwrap_err().code(), Code::NotFound);
    }
    setting.proxy.inject(When::always("/blobs/"), Fault::FlipBit { offset: 0, bit: 0 });
    for _ in 0..20 {
        let received = setting.read(small.clone()).await.unwrap();
        assert_eq!(received.error.unwrap().code(), Code::DataLoss);
    }
}

#[tokio::test]
async fn five_hundred_cancels_leak_no_permit_and_no_connection() {
    const STREAMS: usize = 4;
    let setting = Setting::limited_to(STREAMS).await;
    let (mut cancelled, mut refused) = (0, 0);
    while cancelled < 500 {
        match open(&setting).await {
            Ok(stream) => {
                drop(stream);
                cancelled += 1;
            }
            // The last cancels may not have reached the service yet.
            Err(status) => {
                is_overloaded(status);
                refused += 1;
                assert!(refused < 10_000, "after {cancelled} cancels no permit was released");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    let closed = |connections: &[crate::support::connection_log::Connection]| {
        connections.iter().all(|connection| connection.closed.is_some())
    };
    setting.proxy.connection_log().wait_for(PATIENCE, closed).await;
    let mut held = Vec::new();
    for _ in 0..STREAMS {
        held.push(hold(&setting).await.unwrap());
    }
    is_overloaded(open(&setting).await.unwrap_err());
}
