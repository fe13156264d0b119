//! Bodies other than what was requested: HTML, nothing, another type, compressed, too large.

use rexd::grpc::proto::StreamBlobRequest;
use tonic::Code;

use crate::{
    MANIFEST_TARGET, OCI_MANIFEST, REGISTRY, Setting, chunked, document, image,
    support::{call::Call, scripted::Reply, status::Failure},
};

const INVALID: (Code, &str) = (Code::Internal, "REGISTRY_INVALID_RESPONSE");
const TOO_LARGE: (Code, &str) = (Code::ResourceExhausted, "RESPONSE_TOO_LARGE");

fn html() -> Reply {
    Reply::status(200)
        .header("Content-Type", "text/html; charset=utf-8")
        .body("<!DOCTYPE html><title>Welcome</title>")
}

#[tokio::test]
async fn html_with_200_is_an_error_that_names_the_content_type_and_the_registry() {
    for call in Call::each(REGISTRY) {
        let mut setting = Setting::new().await;
        setting.registry.otherwise(|_| Some(html()));
        let failure = setting.fails(&call, INVALID.0, INVALID.1).await;
        let message = failure.status.message();
        assert!(message.contains("text/html") && message.contains(REGISTRY), "{message}");
        assert_eq!(failure.metadata["registry"], REGISTRY);
        assert_eq!(failure.metadata["http_status"], "200");
        assert_eq!(
            setting.registry.requests().len(),
            1,
            "a response that was received is not requested again"
        );
    }
}

#[tokio::test]
async fn html_instead_of_a_part_of_a_blob_is_refused_before_any_frame() {
    for reply in [html(), partial_html()] {
        let mut setting = Setting::new().await;
        setting.registry.otherwise(move |_| Some(reply.clone()));
        for (offset, limit) in [(0, 10), (5, 0), (5, 10)] {
            let digest = crate::support::call::EMPTY_DIGEST;
            let Call::Blob(request) = Call::blob(REGISTRY, "org/app", digest) else { panic!() };
            let request = StreamBlobRequest { offset, limit, ..request };
            let status = setting.client.stream_blob(request).await.unwrap_err();
            let failure = Failure::expect(status, INVALID.0, INVALID.1, "no frame");
            assert!(failure.status.message().contains("text/html"), "{:?}", failure.status);
        }
    }
}

/// An HTML page that is sent as the bytes 5 to 14 of the blob.
fn partial_html() -> Reply {
    Reply::status(206)
        .header("Content-Type", "Text/HTML")
        .header("Content-Range", "bytes 5-14/15")
        .body("<!DOCTYPE>")
}

#[tokio::test]
async fn an_empty_body_is_invalid_for_lists_and_manifests_and_valid_for_ping() {
    let mut setting = Setting::new().await;
    setting.registry.otherwise(|_| Some(Reply::status(200)));
    for call in
        [Call::catalog(REGISTRY), Call::tags(REGISTRY, "org/app"), Call::manifest(REGISTRY, "org/app", "v1")]
    {
        let failure = setting.fails(&call, INVALID.0, INVALID.1).await;
        assert!(failure.status.message().contains("no content type"), "{:?}", failure.status);
    }
    let pong = Call::ping(REGISTRY).outcome(&mut setting.client).await;
    assert!(pong.is_ok(), "{pong:?}");
}

#[tokio::test]
async fn json_of_another_shape_is_an_invalid_list_or_manifest() {
    for body in
        ["", "{", "null", "[]", "[1]", "\"tags\"", "{\"tags\": {}}", "{\"tags\": [1]}", "\u{0}", "{} {}"]
    {
        let mut setting = Setting::new().await;
        let reply = Reply::status(200).header("Content-Type", "application/json").body(body);
        setting.registry.otherwise(move |_| Some(reply.clone()));
        setting.fails(&Call::tags(REGISTRY, "org/app"), INVALID.0, INVALID.1).await;
    }
    for body in [
        "",
        "{",
        "null",
        "[]",
        "\"x\"",
        "{} {}",
        "{\"schemaVersion\": 2}",
        "{\"schemaVersion\": \"2\", \"layers\": []}",
    ] {
        let mut setting = Setting::new().await;
        let reply = document(OCI_MANIFEST, body);
        setting.registry.otherwise(move |_| Some(reply.clone()));
        setting.fails(&Call::manifest(REGISTRY, "org/app", "v1"), INVALID.0, INVALID.1).await;
    }
}

#[tokio::test]
async fn deeply_nested_json_is_refused() {
    let deep = format!("{{\"tags\": {}", "[".repeat(1_000_000));
    let mut setting = Setting::new().await;
    let reply = Reply::status(200).header("Content-Type", OCI_MANIFEST).body(deep);
    setting.registry.otherwise(move |_| Some(reply.clone()));
    for call in [Call::tags(REGISTRY, "org/app"), Call::manifest(REGISTRY, "org/app", "v1")] {
        setting.fails(&call, INVALID.0, INVALID.1).await;
    }
}

#[tokio::test]
async fn an_encoded_body_is_refused_wherever_a_body_is_read() {
    for encoding in ["gzip", "zstd", "br", "identity, gzip"] {
        let mut setting = Setting::new().await;
        let reply = document(OCI_MANIFEST, &image("a")).header("Content-Encoding", encoding);
        setting.registry.otherwise(move |_| Some(reply.clone()));
        for call in Call::each(REGISTRY).into_iter().filter(|call| !matches!(call, Call::Ping(_))) {
            let failure = setting.fails(&call, INVALID.0, INVALID.1).await;
            assert!(failure.status.message().contains("Content-Encoding"), "{:?}", failure.status);
        }
        let requests = setting.registry.requests();
        assert!(requests.iter().all(|request| request.header("accept-encoding") == Some("identity")));
    }
}

#[tokio::test]
async fn content_encoding_identity_is_accepted() {
    let mut setting = Setting::new().await;
    let reply = document(OCI_MANIFEST, &image("a")).header("Content-Encoding", "identity");
    setting.registry.on("GET", MANIFEST_TARGET, [reply]);
    let content = setting.manifest("").await.unwrap().content;
    assert_eq!(content, image("a"));
}

#[tokio::test]
async fn five_mebibytes_are_too_large_with_and_without_a_content_length() {
    let mut padded = image("a");
    padded.push_str(&" ".repeat(5 << 20));
    let head = format!("Content-Type: {OCI_MANIFEST}\r\n");
    for reply in [document(OCI_MANIFEST, &padded), chunked(&head, padded.as_bytes())] {
        let mut setting = Setting::new().await;
        setting.registry.otherwise(move |_| Some(reply.clone()));
        for call in [
            Call::manifest(REGISTRY, "org/app", "v1"),
            Call::tags(REGISTRY, "org/app"),
            Call::catalog(REGISTRY),
        ] {
            let failure = setting.fails(&call, TOO_LARGE.0, TOO_LARGE.1).await;
            assert!(failure.status.message().contains("4194304"), "{:?}", failure.status);
        }
    }
}

#[tokio::test]
async fn a_manifest_in_chunks_is_read() {
    let mut setting = Setting::new().await;
    let content = image("a");
    let reply = chunked(&format!("Content-Type: {OCI_MANIFEST}\r\n"), content.as_bytes());
    setting.registry.on("GET", MANIFEST_TARGET, [reply]);
    assert_eq!(setting.manifest("").await.unwrap().content, content);
}
