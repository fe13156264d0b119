//! The spans that leave the process: a call's trace goes on where the caller's metadata says, over OTLP.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use rexd::grpc::proto::{PingRequest, registry_service_client::RegistryServiceClient};
use tokio::net::TcpListener;
use tonic::transport::Endpoint;

const TRACE: [u8; 16] =
    [0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36];
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// An OTLP collector that takes everything and keeps the bytes.
async fn collector() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, exported) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let kept = Arc::clone(&exported);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(collect(socket, Arc::clone(&kept)));
        }
    });
    (address, exported)
}

async fn collect(socket: tokio::net::TcpStream, kept: Arc<Mutex<Vec<u8>>>) {
    let mut connection = h2::server::handshake(socket).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let kept = Arc::clone(&kept);
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(bytes)) = body.data().await {
                kept.lock().unwrap().extend_from_slice(&bytes);
                let _ = body.flow_control().release_capacity(bytes.len());
            }
            let head = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut stream = respond.send_response(head, false).unwrap();
            // An empty message: everything was accepted.
            stream.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
            let trailers =
                http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
            stream.send_trailers(trailers).unwrap();
        });
    }
}

fn serve(registry: SocketAddr, listen: SocketAddr, collector: Option<SocketAddr>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rexd"));
    command
        .args(["serve", "--listen", &listen.to_string()])
        .env("REXD_REGISTRIES", format!("{{demo.local: {{url: \"http://{registry}\"}}}}"))
        .env("REXD_DEFAULT_REGISTRY", "demo.local")
        .env("REXD_OPS_LISTEN", "null")
        .env("REXD_LIMITS__DRAIN_PAUSE", "1ms")
        .stderr(Stdio::null());
    if let Some(collector) = collector {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"));
    }
    command.spawn().unwrap()
}

/// Starts the service, pings through it within the caller's trace, and ends it; returns what the collector was sent.
async fn exported_by_a_ping(told: bool) -> Vec<u8> {
    let registry = support::demo_registry().await;
    let (address, exported) = collector().await;
    let listen = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut service = serve(registry.address(), listen, told.then_some(address));
    let endpoint = Endpoint::from_shared(format!("http://{listen}")).unwrap();
    let channel = loop {
        match endpoint.connect().await {
            Ok(channel) => break channel,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        assert!(service.try_wait().unwrap().is_none(), "the service ended early");
    };
    let mut request = tonic::Request::new(PingRequest::default());
    request.metadata_mut().insert("traceparent", TRACEPARENT.parse().unwrap());
    RegistryServiceClient::new(channel).ping(request).await.unwrap();
    Command::new("kill").args(["-TERM", &service.id().to_string()]).status().unwrap();
    let code = tokio::task::spawn_blocking(move || service.wait().unwrap()).await.unwrap();
    assert!(code.success(), "{code}");
    let bytes = exported.lock().unwrap();
    bytes.clone()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calls_spans_are_exported_in_the_callers_trace_and_the_last_ones_at_the_end() {
    let exported = exported_by_a_ping(true).await;
    assert!(holds(&exported, &TRACE), "the caller's trace goes on");
    for part in ["rexd", "rpc", "upstream", "http.response.status_code"] {
        assert!(holds(&exported, part.as_bytes()), "{part} is exported");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_exported_unless_an_endpoint_is_named() {
    assert_eq!(exported_by_a_ping(false).await, b"");
}
