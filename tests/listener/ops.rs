//! What the operator's machinery asks, on the ops port and by reflection.

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

/// The whole answer to a request without a body.
async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: rexd.test\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    answer
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, "GET", path).await
}

#[tokio::test]
async fn livez_and_readyz_answer_and_nothing_else_does() {
    let ops = start(settings()).await.ops;
    for path in ["/livez", "/readyz", "/readyz?verbose"] {
        let answer = get(ops, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"), "{path}: {answer}");
    }
    let head = ask(ops, "HEAD", "/livez").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(get(ops, "/").await.starts_with("HTTP/1.1 404 "));
    let post = ask(ops, "POST", "/readyz").await;
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
}

#[tokio::test]
async fn a_silent_prober_is_closed_and_the_others_are_answered() {
    let ops = start(settings()).await.ops;
    let begun = Instant::now();
    let mut silent = TcpStream::connect(ops).await.unwrap();
    assert!(get(ops, "/livez").await.starts_with("HTTP/1.1 200 "));
    assert!(wire::closes_within(&mut silent, Duration::from_secs(9)).await);
    assert!(begun.elapsed() >= Duration::from_secs(4), "it had its time");
}

#[tokio::test]
async fn both_reflection_services_list_the_health_service() {
    let server = start(settings()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        // ServerReflectionRequest with an empty `list_services`, field 7.
        let call = caller.begin(&path, ("x-ms", "0"), &[0x3a, 0]).await.unwrap();
        let answer = end(call).await.unwrap();
        assert_eq!(answer.code, 0, "{answer:?}");
        let list = String::from_utf8_lossy(&answer.body);
        assert!(list.contains("grpc.health.v1.Health"), "{version}: {list}");
    }
}

#[tokio::test]
async fn the_service_is_told_the_address_of_its_caller() {
    let server = start(settings()).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let own = stream.local_addr().unwrap().to_string();
    let mut caller = Caller::over(stream).await.unwrap();
    let answer = end(caller.work("Hold", 0).await.unwrap()).await.unwrap();
    assert_eq!(answer.headers["x-peer"], own);
    assert_eq!(answer.headers["x-identity"], "false");
}
