//! The level at which a call's failure is logged: WARN when the service or its registry failed, INFO otherwise.

use rexd::grpc::proto::{GetManifestRequest, PingRequest, StreamBlobRequest};
use serde_json::Value;
use tonic::Code;

use crate::{
    largest_blob,
    process::Service,
    support::{
        demo_registry,
        fault::{Fault, FaultProxy, When},
    },
};

/// The levels of the lines with this message.
fn levels<'a>(log: &'a [Value], message: &str) -> Vec<&'a str> {
    let lines = log.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.contains(message)));
    lines.map(|line| line["level"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_registry_is_logged_as_a_warning_and_a_missing_manifest_is_not() {
    let registry = demo_registry().await;
    let proxy = FaultProxy::start(registry.address());
    let service = Service::start(proxy.address(), None);
    let mut client = service.client().await;
    let request = GetManifestRequest {
        repository: "sample/app".to_owned(),
        reference: "missing".to_owned(),
        ..GetManifestRequest::default()
    };
    assert_eq!(client.get_manifest(request).await.unwrap_err().code(), Code::NotFound);
    proxy.inject(
        When::always("/v2/"),
        Fault::Replace(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec()),
    );
    assert_eq!(client.ping(PingRequest::default()).await.unwrap_err().code(), Code::Unavailable);
    drop(client);
    let log = tokio::task::spawn_blocking(|| service.stop()).await.unwrap();
    let failures: Vec<_> =
        log.iter().filter(|line| line["code"].is_string() && line["method"].is_string()).collect();
    let failures: Vec<_> = failures
        .iter()
        .map(|line| (line["code"].as_str().unwrap(), line["level"].as_str().unwrap()))
        .collect();
    assert_eq!(failures, [("NotFound", "INFO"), ("Unavailable", "WARN")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fails_midway_is_logged_as_a_warning() {
    let registry = demo_registry().await;
    let proxy = FaultProxy::start(registry.address());
    proxy.inject(When::always("/blobs/"), Fault::FlipBit { offset: 1000, bit: 0 });
    let service = Service::start(proxy.address(), None);
    let (repository, digest) = largest_blob();
    let request = StreamBlobRequest { repository, digest, ..StreamBlobRequest::default() };
    let mut stream = service.client().await.stream_blob(request).await.unwrap().into_inner();
    let status = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("OK for a blob with a wrong bit"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DataLoss);
    drop(stream);
    let log = tokio::task::spawn_blocking(|| service.stop()).await.unwrap();
    assert_eq!(levels(&log, "call failed"), ["WARN"]);
}
