//! The ops port and gRPC reflection.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    caller::{Caller, PATIENCE, end},
    server::{settings, start},
    wire,
};

/// The whole response to a request without a body.
async fn request(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: rexd.test\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut response)).await.expect("a response").unwrap();
    response
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    request(address, "GET", path).await
}

#[tokio::test]
async fn livez_and_readyz_are_the_only_paths_and_allow_only_get_and_head() {
    let ops = start(settings()).await.ops;
    for path in ["/livez", "/readyz", "/readyz?verbose"] {
        let response = get(ops, path).await;
        assert!(
            response.starts_with("HTTP/1.1 200 ") && response.ends_with("\r\n\r\nok\n"),
            "{path}: {response}"
        );
    }
    let head = request(ops, "HEAD", "/livez").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(get(ops, "/").await.starts_with("HTTP/1.1 404 "));
    let post = request(ops, "POST", "/readyz").await;
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
}

#[tokio::test]
async fn a_silent_prober_is_closed_and_others_are_served() {
    let ops = start(settings()).await.ops;
    let begun = Instant::now();
    let mut silent = TcpStream::connect(ops).await.unwrap();
    assert!(get(ops, "/livez").await.starts_with("HTTP/1.1 200 "));
    assert!(wire::closes_within(&mut silent, Duration::from_secs(9)).await);
    assert!(begun.elapsed() >= Duration::from_secs(4), "it was closed before the limit");
}

#[tokio::test]
async fn both_reflection_services_list_the_health_service() {
    let server = start(settings()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        // ServerReflectionRequest with an empty `list_services`, field 7.
        let call = caller.begin(&path, ("x-ms", "0"), &[0x3a, 0]).await.unwrap();
        let response = end(call).await.unwrap();
        assert_eq!(response.code, 0, "{response:?}");
        let list = String::from_utf8_lossy(&response.body);
        assert!(list.contains("grpc.health.v1.Health"), "{version}: {list}");
    }
}

#[tokio::test]
async fn the_service_sees_the_address_of_its_caller() {
    let server = start(settings()).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let own = stream.local_addr().unwrap().to_string();
    let mut caller = Caller::over(stream).await.unwrap();
    let response = end(caller.work("Hold", 0).await.unwrap()).await.unwrap();
    assert_eq!(response.headers["x-peer"], own);
    assert_eq!(response.headers["x-identity"], "false");
}
