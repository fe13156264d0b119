//! Shutdown of the server: its steps, and how long they take.

use std::{sync::atomic::Ordering, time::Duration};

use rexd::server::Settings;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    caller::{Caller, NOT_SERVING, PATIENCE, SERVING, end},
    ops::get,
    server::{NEVER, Running, settings, start},
    wire,
};

const GRACE: Duration = Duration::from_millis(300);
/// The guarantee: at most a second after the grace period.
const HARD_END: Duration = Duration::from_secs(1);

/// Stops the server and returns how long it took.
pub(crate) async fn stopped(server: Running) -> Duration {
    let begun = Instant::now();
    server.stop.cancel();
    timeout(PATIENCE, server.done).await.expect("the server ends").unwrap().unwrap();
    begun.elapsed()
}

#[tokio::test]
async fn an_idle_server_ends_at_once() {
    let server = start(Settings { drain_grace: NEVER, ..settings() }).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    assert_eq!(caller.health().await.unwrap(), SERVING);
    let took = stopped(server).await;
    assert!(took < HARD_END, "took {took:?}");
}

#[tokio::test]
async fn a_running_call_finishes() {
    let server = start(Settings { drain_grace: NEVER, ..settings() }).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    let call = caller.work("Hold", 500).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    let (response, took) = tokio::join!(end(call), stopped(server));
    assert_eq!(response.unwrap().code, 0);
    assert!(took >= Duration::from_millis(300), "it waited for the call, took {took:?}");
}

#[tokio::test]
async fn readiness_fails_first_and_calls_are_accepted_during_the_pause() {
    let server = start(Settings { drain_pause: Duration::from_millis(500), ..settings() }).await;
    assert!(get(server.ops, "/readyz").await.starts_with("HTTP/1.1 200 "));
    server.stop.cancel();
    sleep(Duration::from_millis(50)).await;

    assert!(server.readiness.is_draining());
    let ready = get(server.ops, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("draining"), "{ready}");
    assert!(get(server.ops, "/livez").await.starts_with("HTTP/1.1 200 "), "alive to the end");
    let mut newcomer = Caller::connect(server.address).await.expect("still accepting");
    assert_eq!(newcomer.health().await.unwrap(), NOT_SERVING);

    timeout(PATIENCE, server.done).await.unwrap().unwrap().unwrap();
    TcpStream::connect(server.address).await.expect_err("no longer accepting");
}

#[tokio::test]
async fn open_connections_get_goaway() {
    let server = start(settings()).await;
    let mut caller = wire::open(server.address).await;
    server.stop.cancel();
    let goaway = wire::next_of(&mut caller, wire::GOAWAY).await.unwrap();
    assert_eq!(goaway.code(), 0, "NO_ERROR");
}

#[tokio::test]
async fn calls_that_outlive_the_grace_end_as_unavailable_and_their_handlers_are_dropped() {
    let server = start(settings()).await;
    let calls = server.calls.clone();
    let mut caller = Caller::connect(server.address).await.unwrap();
    let unary = caller.work("Hold", 3_600_000).await.unwrap();
    let stream = caller.work("Stream", 0).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    let (unary, stream, took) = tokio::join!(end(unary), end(stream), stopped(server));
    assert_eq!((unary.unwrap().code, stream.unwrap().code), (14, 14));
    assert!(took >= GRACE && took < GRACE + HARD_END, "took {took:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn silent_peers_do_not_delay_the_end_by_more_than_a_second() {
    let server = start(settings()).await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let mut preface_only = TcpStream::connect(server.address).await.unwrap();
    preface_only.write_all(wire::PREFACE).await.unwrap();
    // It has a running call, and does not acknowledge the PING that comes with the GOAWAY.
    let mut unresponsive = wire::open(server.address).await;
    let flags = wire::END_HEADERS | wire::END_STREAM;
    let call = wire::frame(wire::HEADERS, flags, 1, &wire::call("/test.TestService/Hold"));
    unresponsive.write_all(&call).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    let took = stopped(server).await;
    assert!(took >= GRACE && took < GRACE + HARD_END, "took {took:?}");
}

#[tokio::test]
async fn dropping_the_server_closes_everything() {
    let server = start(settings()).await;
    let mut caller = wire::open(server.address).await;
    server.done.abort();
    assert!(wire::closes_within(&mut caller, PATIENCE).await);
    TcpStream::connect(server.address).await.expect_err("the listener is gone");
}
