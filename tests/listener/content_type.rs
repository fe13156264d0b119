//! Requests over HTTP/2 that are not gRPC: HTTP 415, as the gRPC protocol over HTTP/2 asks for.

use crate::{
    caller::{Caller, end},
    server::{settings, start},
};

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// The HTTP status of the response to a request with this `content-type`.
async fn http_status(caller: &mut Caller, content_type: Option<&str>) -> u16 {
    let mut request = http::Request::post(format!("http://rexd.test{CHECK}")).header("te", "trailers");
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    let response = caller.send_request(request.body(()).unwrap(), &[]).await.unwrap();
    let (parts, _) = response.await.unwrap().into_parts();
    if parts.status != 200 {
        assert!(!parts.headers.contains_key("grpc-status"), "{parts:?}");
    }
    parts.status.as_u16()
}

#[tokio::test]
async fn other_content_types_than_grpc_get_415() {
    let server = start(settings()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    for refused in ["application/json", "application/grpcx", "application/grpc-web", "text/plain", ""] {
        assert_eq!(http_status(&mut caller, Some(refused)).await, 415, "{refused:?}");
    }
    assert_eq!(http_status(&mut caller, None).await, 415, "no content-type");
}

#[tokio::test]
async fn every_grpc_content_type_is_served() {
    let server = start(settings()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    for served in ["application/grpc", "application/grpc+proto", "application/grpc;x=y", "Application/GRPC"] {
        assert_eq!(http_status(&mut caller, Some(served)).await, 200, "{served}");
    }
}

#[tokio::test]
async fn a_refused_content_type_leaves_the_connection_open() {
    let server = start(settings()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    assert_eq!(http_status(&mut caller, Some("application/json")).await, 415);
    let response = end(caller.begin(CHECK, ("x-ms", "0"), &[]).await.unwrap()).await.unwrap();
    assert_eq!(response.code, 0);
}
