//! Bodies that arrive so slowly that no idle limit ends them.

use std::time::Duration;

use rexd::grpc::proto::ListTagsRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use crate::{
    REGISTRY,
    support::{
        listen,
        service::{Options, Service, settings, with_http},
        status::Failure,
    },
};

/// A registry that announces a body and sends a byte of it every 20 ms, for ever.
async fn trickling() -> std::net::SocketAddr {
    let listener = listen().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let head =
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n";
                let mut sent = stream.write_all(head.as_bytes()).await;
                while sent.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    sent = stream.write_all(b" ").await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_list_with_a_slow_body_fails_at_the_limit_for_the_whole_body() {
    let slow = with_http(settings(REGISTRY, trickling().await), |http| {
        http.idle_timeout = Duration::from_secs(60);
        http.body_timeout = Duration::from_millis(300);
    });
    let service = Service::start(vec![slow], Options::default()).await;
    let request = ListTagsRequest { repository: "org/app".to_owned(), ..ListTagsRequest::default() };
    let call = async { service.client().await.list_tags(request).await };
    // Without the limit, the call would last as long as the registry sends.
    let status = tokio::time::timeout(Duration::from_secs(20), call).await.unwrap().unwrap_err();
    let failure = Failure::expect(status, Code::Unavailable, "REGISTRY_TIMEOUT", "a body that trickles");
    assert!(failure.status.message().contains("complete body"), "{}", failure.status.message());
}
