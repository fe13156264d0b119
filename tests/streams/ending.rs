//! Callers that do not wait for the end: a deadline bounds the whole stream, and a cancelled call aborts the upstream
//! request.

use std::time::{Duration, Instant};

use tonic::{Code, Request};

use crate::{
    PATIENCE, Setting, large_blob,
    received::{begin, chunk},
    support::{
        call::Call,
        connection_log::ClosedBy,
        fault::{Fault, When},
        status::Failure,
    },
};

/// The guarantee is 100 ms, and 50 ms past a deadline; the rest is for a busy machine.
const SOON: Duration = Duration::from_millis(500);

/// The registry sends nothing more after this many bytes.
fn stall(bytes: u64) -> Fault {
    Fault::StallAfter { bytes, pause: PATIENCE }
}

/// All connections to the registry are closed, by the service.
async fn upstream_closes(setting: &Setting) {
    let closed = setting.proxy.connection_log().wait_for(SOON, |connections| {
        !connections.is_empty() && connections.iter().all(|connection| connection.closed.is_some())
    });
    for connection in closed.await {
        assert_eq!(connection.closed.unwrap().1, ClosedBy::Client);
    }
}

#[tokio::test]
async fn a_deadline_ends_a_stream_whose_registry_stalls() {
    const TIMEOUT: Duration = Duration::from_millis(400);
    let (request, blob) = large_blob();
    for stalled_after in [0, 100_000] {
        let mut setting = Setting::with([(1, stall(stalled_after))]).await;
        let mut request = Request::new(request.clone());
        request.set_timeout(TIMEOUT);
        let began = Instant::now();
        let mut stream = setting.client.stream_blob(request).await.unwrap().into_inner();
        begin(&mut stream).await;
        let mut read = 0;
        let status = loop {
            match stream.message().await {
                Ok(Some(message)) => match message.frame {
                    Some(rexd::grpc::proto::stream_blob_response::Frame::Chunk(chunk)) => {
                        read += chunk.data.len()
                    }
                    other => panic!("{other:?}"),
                },
                Ok(None) => panic!("an end without a status"),
                Err(status) => break status,
            }
        };
        let took = began.elapsed();
        Failure::expect(status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "stalled");
        assert!(took >= TIMEOUT && took < TIMEOUT + SOON, "{took:?}");
        assert!(read == stalled_after as usize && read < blob.len());
        upstream_closes(&setting).await;
    }
}

#[tokio::test]
async fn a_deadline_ends_the_wait_for_an_upstream_response() {
    for call in Call::each(crate::REGISTRY) {
        let mut setting = Setting::new().await;
        setting.proxy.inject(When::always("/v2/"), Fault::DelayHead(PATIENCE));
        let began = Instant::now();
        let timed = tokio::time::timeout(Duration::from_millis(300), call.outcome(&mut setting.client));
        assert!(timed.await.is_err(), "{call:?} got a response");
        assert!(began.elapsed() < SOON);
        upstream_closes(&setting).await;
    }
}

#[tokio::test]
async fn cancelling_aborts_the_upstream_request_at_every_stage() {
    let (request, _) = large_blob();
    // Before the first byte, midway with a stalled registry, and midway with a caller that does not read.
    for (fault, chunks) in [(stall(0), 0), (stall(100_000), 1), (Fault::DropHeader("etag"), 1)] {
        let mut setting = Setting::with([(1, fault)]).await;
        let mut stream = setting.client.stream_blob(request.clone()).await.unwrap().into_inner();
        begin(&mut stream).await;
        for _ in 0..chunks {
            chunk(&mut stream).await;
        }
        assert_eq!(setting.proxy.connection_log().open(), 1);
        drop(stream);
        upstream_closes(&setting).await;
    }
}

#[tokio::test]
async fn a_lost_connection_of_the_caller_cancels_its_call() {
    let (request, _) = large_blob();
    let setting = Setting::with([(1, stall(100_000))]).await;
    let mut own = setting.service.client().await;
    let mut stream = own.stream_blob(request).await.unwrap().into_inner();
    begin(&mut stream).await;
    drop((own, stream));
    upstream_closes(&setting).await;
}

#[tokio::test]
async fn a_stream_from_a_stalled_registry_fails_at_the_idle_limit() {
    let (request, blob) = large_blob();
    let registry = crate::support::demo_registry().await;
    let proxy = crate::FaultProxy::start(registry.address());
    proxy.inject(When::always("/blobs/"), stall(0));
    let mut settings = crate::settings(crate::REGISTRY, proxy.address());
    settings.http.idle_timeout = Duration::from_millis(100);
    let service = crate::Service::start(vec![settings], crate::Options::default()).await;
    let received = crate::Received::read(&mut service.client().await, request).await.unwrap();
    let failure = received.broken(&blob, Code::Unavailable, "REGISTRY_TIMEOUT");
    assert!(failure.retry_ms().is_some());
    assert_eq!(proxy.connection_log().requests().len(), 4, "resumed three times without progress");
}
