//! The fault proxy, in front of the sample registry.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use reqwest::{Method, StatusCode};
use rexd::demo::DemoRegistry;

use crate::{
    get, header, large_blob, request,
    support::{
        connection_log::ClosedBy,
        demo_registry,
        fault::{Fault, FaultProxy, When},
    },
};

/// Longer than anything here may take. A test that waits in vain fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(10);

async fn broken(when: When, fault: Fault) -> (DemoRegistry, FaultProxy) {
    let registry = demo_registry().await;
    let proxy = FaultProxy::start(registry.address());
    proxy.inject(when, fault);
    (registry, proxy)
}

/// The body bytes that arrived, and whether the client saw the body as complete.
async fn read(address: SocketAddr, target: &str) -> (Vec<u8>, bool) {
    let mut body = get(address, target).await.bytes_stream();
    let mut read = Vec::new();
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => read.extend_from_slice(&chunk),
            Err(_) => return (read, false),
        }
    }
    (read, true)
}

#[tokio::test]
async fn without_a_fault_the_proxy_changes_nothing() {
    let registry = demo_registry().await;
    let proxy = FaultProxy::start(registry.address());
    let (target, blob) = large_blob();
    let (read, complete) = read(proxy.address(), &target).await;
    assert!(complete && read == blob);
    let connections = proxy.connection_log().connections();
    assert_eq!(connections.len(), 1);
    assert_eq!(connections[0].body_sent, blob.len() as u64);
    assert_eq!(connections[0].request.as_ref().unwrap().target, target);
    assert_eq!(proxy.connection_log().faults(), 0);
}

#[tokio::test]
async fn a_cut_forwards_exactly_the_bytes_before_it() {
    let (target, blob) = large_blob();
    for length in [0, 1, 100_000, blob.len() - 1] {
        let (_registry, proxy) = broken(When::always("/blobs/"), Fault::CutAfter(length as u64)).await;
        let (read, complete) = read(proxy.address(), &target).await;
        assert!(!complete && read == blob[..length], "cut after {length}, got {}", read.len());
        assert_eq!(proxy.connection_log().faults(), 1);
    }
}

#[tokio::test]
async fn a_reset_is_an_error_within_the_body() {
    let (target, blob) = large_blob();
    let (_registry, proxy) = broken(When::always("/blobs/"), Fault::ResetAfter(100_000)).await;
    let (read, complete) = read(proxy.address(), &target).await;
    assert!(!complete && read.len() <= 100_000 && blob.starts_with(&read));
}

#[tokio::test]
async fn one_bit_is_flipped_and_only_the_nth_time() {
    let (target, blob) = large_blob();
    let offset = 5_000_000;
    let (_registry, proxy) = broken(When::nth(2, "/blobs/"), Fault::FlipBit { offset, bit: 3 }).await;
    let mut flips = Vec::new();
    for _ in 0..3 {
        let (read, complete) = read(proxy.address(), &target).await;
        assert!(complete && read.len() == blob.len());
        let differences = read.iter().zip(&blob).enumerate().filter(|(_, (read, sent))| read != sent);
        flips.push(differences.map(|(at, (read, sent))| (at as u64, read ^ sent)).collect::<Vec<_>>());
    }
    assert_eq!(flips, [vec![], vec![(offset, 0b1000)], vec![]]);
}

#[tokio::test]
async fn a_stall_lasts_as_long_as_configured_and_then_the_rest_arrives() {
    let (target, blob) = large_blob();
    let pause = Duration::from_millis(200);
    let (_registry, proxy) = broken(When::always("/blobs/"), Fault::StallAfter { bytes: 1000, pause }).await;
    let begun = Instant::now();
    let (read, complete) = read(proxy.address(), &target).await;
    assert!(complete && read == blob && begun.elapsed() >= pause);
}

#[tokio::test]
async fn a_delayed_head_arrives_late() {
    let pause = Duration::from_millis(200);
    let (_registry, proxy) = broken(When::first(1, "/v2/"), Fault::DelayHead(pause)).await;
    let begun = Instant::now();
    assert_eq!(get(proxy.address(), "/v2/").await.status(), StatusCode::OK);
    assert!(begun.elapsed() >= pause);
}

#[tokio::test]
async fn a_short_length_makes_a_short_body_look_complete() {
    let (target, blob) = large_blob();
    let (_registry, proxy) = broken(When::always("/blobs/"), Fault::AnnounceLength(10)).await;
    let (read, complete) = read(proxy.address(), &target).await;
    assert!(complete && read == blob[..10]);
}

#[tokio::test]
async fn a_hidden_range_gets_the_whole_body() {
    let (target, blob) = large_blob();
    let (_registry, proxy) = broken(When::always("/blobs/"), Fault::IgnoreRange).await;
    let response = request(Method::GET, proxy.address(), &target, &[("range", "bytes=5-9")]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "content-length"), blob.len().to_string());
    // The log has the request as it was received, not as it was forwarded.
    assert_eq!(proxy.connection_log().requests()[0].header("Range"), Some("bytes=5-9"));
}

#[tokio::test]
async fn headers_are_replaced_and_dropped() {
    let (target, _) = large_blob();
    let lie = Fault::SetHeader("Docker-Content-Digest", "sha256:lie".to_owned());
    let (_registry, proxy) = broken(When::always("/blobs/"), lie).await;
    proxy.inject(When::always("/blobs/"), Fault::DropHeader("Accept-Ranges"));
    let response = request(Method::HEAD, proxy.address(), &target, &[]).await;
    assert_eq!(header(&response, "docker-content-digest"), "sha256:lie");
    assert!(response.headers().get("accept-ranges").is_none());
    proxy.heal();
    let response = request(Method::HEAD, proxy.address(), &target, &[]).await;
    assert_eq!(header(&response, "accept-ranges"), "bytes");
}

#[tokio::test]
async fn a_response_can_be_replaced_by_any_bytes() {
    let (_registry, proxy) = broken(
        When::first(1, "/v2/"),
        Fault::Replace(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n".to_vec()),
    )
    .await;
    let response = get(proxy.address(), "/v2/").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&response, "retry-after"), "7");
    assert_eq!(get(proxy.address(), "/v2/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed_while_the_body_stalls() {
    let (target, _) = large_blob();
    let stall = Fault::StallAfter { bytes: 1000, pause: Duration::from_secs(3600) };
    let (_registry, proxy) = broken(When::always("/blobs/"), stall).await;
    let response = get(proxy.address(), &target).await;
    assert_eq!(proxy.connection_log().open(), 1);
    let left = Instant::now();
    drop(response);
    let connections = proxy.connection_log().wait_for(PATIENCE, |all| all[0].closed.is_some()).await;
    let (closed, by) = connections[0].closed.unwrap();
    assert_eq!(by, ClosedBy::Client);
    assert!(closed >= left && connections[0].body_sent <= 1000);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_body_up() {
    let (target, blob) = large_blob();
    let registry = demo_registry().await;
    let proxy = FaultProxy::start(registry.address());
    let response = get(proxy.address(), &target).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let sent = proxy.connection_log().connections()[0].body_sent;
    assert!(sent < blob.len() as u64 / 2, "{sent} bytes went to a client that read none");
    drop(response);
    let connections = proxy.connection_log().wait_for(PATIENCE, |all| all[0].closed.is_some()).await;
    assert_eq!(connections[0].closed.unwrap().1, ClosedBy::Client);
}
