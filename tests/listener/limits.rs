//! Peers that send nothing, send something other than HTTP/2, or open too many connections.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use rexd::server::Settings;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep},
};

use crate::{
    caller::{Caller, PATIENCE, SERVING},
    server::{settings, start},
    wire::{self, frame},
};

const LIMIT: Duration = Duration::from_millis(200);
/// The time limit, and the delay that a busy machine may add.
const SOON: Duration = Duration::from_secs(3);

fn impatient() -> Settings {
    Settings { preface_timeout: LIMIT, ..settings() }
}

#[tokio::test]
async fn a_silent_socket_is_closed() {
    let server = start(impatient()).await;
    let begun = Instant::now();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert!(wire::closes_within(&mut silent, SOON).await);
    assert!(begun.elapsed() >= LIMIT, "it was closed before the limit");
}

#[tokio::test]
async fn a_preface_sent_too_slowly_is_closed() {
    let server = start(impatient()).await;
    let (mut read, mut write) = TcpStream::connect(server.address).await.unwrap().into_split();
    let drip = tokio::spawn(async move {
        for byte in wire::PREFACE {
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(LIMIT).await;
        }
    });
    // The whole preface would take 24 limits.
    assert!(wire::closes_within(&mut read, LIMIT * 12).await);
    drip.await.unwrap();
}

#[tokio::test]
async fn a_preface_without_settings_is_closed() {
    let server = start(impatient()).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent.write_all(wire::PREFACE).await.unwrap();
    assert!(wire::closes_within(&mut silent, SOON).await);
}

#[tokio::test]
async fn a_connection_that_sent_its_preface_outlives_the_preface_limit() {
    let server = start(impatient()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    sleep(LIMIT * 3).await;
    assert_eq!(caller.health().await.unwrap(), SERVING);
}

#[tokio::test]
async fn an_http_1_request_gets_400_that_names_grpc() {
    let server = start(settings()).await;
    let mut browser = TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: rexd.test\r\nx-padding: {}\r\n\r\n", "v".repeat(1000));
    browser.write_all(head.as_bytes()).await.unwrap();
    browser.shutdown().await.unwrap();
    let mut response = String::new();
    browser.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    assert!(response.contains("gRPC"), "{response}");
}

#[tokio::test]
async fn a_post_of_http_1_is_not_mistaken_for_the_preface() {
    let server = start(settings()).await;
    let mut poster = TcpStream::connect(server.address).await.unwrap();
    poster.write_all(b"POST / HTTP/1.1\r\nhost: rexd.test\r\n\r\n").await.unwrap();
    poster.shutdown().await.unwrap();
    let mut response = String::new();
    poster.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
}

/// A connection from another loopback address than 127.0.0.1.
async fn connect_from(host: u8, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), 0)).unwrap();
    socket.connect(address).await.unwrap()
}

/// Whether a new connection is served; one over a cap is closed before it gets a response.
async fn is_served(stream: TcpStream) -> bool {
    match Caller::over(stream).await {
        Ok(mut caller) => caller.health().await.is_ok(),
        Err(_closed) => false,
    }
}

/// Waits until a new connection is served: the server sees the end of an old one a moment after the caller made it.
async fn is_served_soon(host: u8, address: SocketAddr) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < SOON {
        if is_served(connect_from(host, address).await).await {
            return true;
        }
        sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_until_one_ends() {
    let server = start(Settings { max_connections: 2, ..settings() }).await;
    let first = wire::open(server.address).await;
    let _second = wire::open(server.address).await;
    assert!(!is_served(connect_from(1, server.address).await).await);
    assert!(!is_served(connect_from(2, server.address).await).await, "the cap is over all peers");
    drop(first);
    assert!(is_served_soon(1, server.address).await);
}

#[tokio::test]
async fn a_peer_at_its_limit_does_not_affect_other_peers() {
    let server = start(Settings { max_connections_per_peer: 1, ..settings() }).await;
    let first = wire::open(server.address).await;
    assert!(!is_served(connect_from(1, server.address).await).await);
    assert!(is_served(connect_from(2, server.address).await).await);
    drop(first);
    assert!(is_served_soon(1, server.address).await);
}

#[tokio::test]
async fn silent_connections_count_until_they_are_closed() {
    let server = start(Settings { max_connections: 1, ..impatient() }).await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    sleep(LIMIT / 4).await;
    assert!(!is_served(connect_from(2, server.address).await).await);
    assert!(is_served_soon(2, server.address).await);
}

#[tokio::test]
async fn the_101st_stream_is_refused_and_100_run() {
    let server = start(settings()).await;
    let mut caller = wire::open(server.address).await;
    let block = wire::call("/test.TestService/Hold");
    for stream in (1..=201).step_by(2) {
        let begin = frame(wire::HEADERS, wire::END_HEADERS | wire::END_STREAM, stream, &block);
        caller.write_all(&begin).await.unwrap();
    }
    let refused = wire::next_of(&mut caller, wire::RST_STREAM).await.unwrap();
    assert_eq!((refused.stream, refused.code()), (201, wire::REFUSED_STREAM));
    let begun = Instant::now();
    while server.calls.load(std::sync::atomic::Ordering::SeqCst) != 100 {
        assert!(begun.elapsed() < PATIENCE, "100 calls run");
        sleep(Duration::from_millis(5)).await;
    }
}
