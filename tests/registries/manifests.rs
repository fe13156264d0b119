//! Manifests: what a response says about itself is verified, never trusted.

use rexd::grpc::proto::get_manifest_response::Manifest as View;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    MANIFEST_TARGET, OCI_INDEX, OCI_MANIFEST, REGISTRY, Setting, document, image, index, sha256,
    support::{call::Call, scripted::Reply, status::Failure},
};

const INVALID: (Code, &str) = (Code::Internal, "REGISTRY_INVALID_RESPONSE");

/// A setting in which this is the response for manifest `v1`.
async fn with(reply: Reply) -> Setting {
    let setting = Setting::new().await;
    setting.registry.on("GET", MANIFEST_TARGET, [reply]);
    setting
}

async fn refused(reply: Reply, code: Code, reason: &str) -> String {
    let mut setting = with(reply).await;
    let failure = setting.fails(&Call::manifest(REGISTRY, "org/app", "v1"), code, reason).await;
    assert!(setting.got_expected_requests(), "the request was retried");
    failure.status.message().to_owned()
}

#[tokio::test]
async fn the_exact_bytes_are_returned_with_a_typed_view() {
    let content = format!("\n {} \t\r\n", image("a").replace("\":", "\" : "));
    let mut setting = with(document(&format!("{OCI_MANIFEST}; charset=utf-8"), &content)).await;
    let manifest = setting.manifest("").await.unwrap();
    let descriptor = manifest.content_descriptor.unwrap();
    assert_eq!(manifest.content, content);
    assert_eq!((descriptor.media_type.as_str(), descriptor.size as usize), (OCI_MANIFEST, content.len()));
    assert_eq!(descriptor.digest, sha256(content.as_bytes()));
    assert!(matches!(manifest.manifest, Some(View::ImageManifest(view)) if view.schema_version == 2));
}

#[tokio::test]
async fn without_a_digest_header_the_digest_is_computed() {
    let content = image("a");
    let reply = Reply::status(200).header("Content-Type", OCI_MANIFEST).body(content.clone());
    let manifest = with(reply).await.manifest("").await.unwrap();
    assert_eq!(manifest.content_descriptor.unwrap().digest, sha256(content.as_bytes()));
}

#[tokio::test]
async fn a_wrong_digest_header_is_data_loss() {
    let reply = Reply::status(200)
        .header("Content-Type", OCI_MANIFEST)
        .header("Docker-Content-Digest", sha256(b"something else"))
        .body(image("a"));
    let message = refused(reply, Code::DataLoss, "DIGEST_MISMATCH").await;
    assert!(message.contains(&sha256(b"something else")) && message.contains(&sha256(image("a").as_bytes())));
}

#[tokio::test]
async fn a_malformed_digest_header_is_an_invalid_response() {
    for header in ["", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", "v1"] {
        let reply = Reply::status(200)
            .header("Content-Type", OCI_MANIFEST)
            .header("Docker-Content-Digest", header)
            .body(image("a"));
        refused(reply, INVALID.0, INVALID.1).await;
    }
}

#[tokio::test]
async fn the_requested_digest_is_compared_whatever_the_header_says() {
    let (requested, received) = (image("requested"), image("received"));
    let digest = sha256(requested.as_bytes());
    for in_header in [&requested, &received] {
        let mut setting = Setting::new().await;
        let reply = Reply::status(200)
            .header("Content-Type", OCI_MANIFEST)
            .header("Docker-Content-Digest", sha256(in_header.as_bytes()))
            .body(received.clone());
        setting.registry.on("GET", &format!("/v2/org/app/manifests/{digest}"), [reply]);
        let call = Call::manifest(REGISTRY, "org/app", &digest);
        setting.fails(&call, Code::DataLoss, "DIGEST_MISMATCH").await;
        assert!(setting.got_expected_requests());
    }
}

#[tokio::test]
async fn a_content_type_that_contradicts_the_media_type_is_refused() {
    for (content_type, content) in [
        (OCI_INDEX, image("a")),
        (OCI_MANIFEST, index(&[]).to_string()),
        ("application/json", image("a")),
        ("application/vnd.docker.distribution.manifest.v2+json", image("a")),
    ] {
        let message = refused(document(content_type, &content), INVALID.0, INVALID.1).await;
        assert!(message.contains(content_type), "{message}");
    }
}

#[tokio::test]
async fn a_manifest_that_is_also_an_index_is_refused() {
    for field in ["layers", "config", "fsLayers"] {
        for media_type in [OCI_MANIFEST, OCI_INDEX, "application/json"] {
            let mut both: Value = index(&[]);
            both["mediaType"] = media_type.into();
            both[field] = json!([]);
            let message = refused(document(media_type, &both.to_string()), INVALID.0, INVALID.1).await;
            assert!(message.contains("manifests and layers"), "{message}");
        }
    }
}

#[tokio::test]
async fn a_duplicate_key_is_refused() {
    let twice = image("a").replacen('{', &format!("{{\"mediaType\": \"{OCI_INDEX}\","), 1);
    refused(document(OCI_MANIFEST, &twice), INVALID.0, INVALID.1).await;
}

#[tokio::test]
async fn schema_1_is_unsupported_by_its_type_and_by_its_version() {
    let schema1 =
        json!({ "schemaVersion": 1, "name": "org/app", "tag": "v1", "fsLayers": [], "history": [] })
            .to_string();
    for media_type in [
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/json",
    ] {
        let reply = Reply::status(200).header("Content-Type", media_type).body(schema1.clone());
        let message = refused(reply, Code::Unimplemented, "UNSUPPORTED_BY_REGISTRY").await;
        assert!(message.contains("schema 1"), "{message}");
    }
}

#[tokio::test]
async fn content_of_a_type_that_is_not_parsed_is_returned_as_bytes() {
    let content =
        json!({ "schemaVersion": 2, "mediaType": "application/vnd.example+json", "x": [1] }).to_string();
    let manifest = with(document("application/vnd.example+json", &content)).await.manifest("").await.unwrap();
    assert_eq!(manifest.content, content);
    assert!(manifest.manifest.is_none());
}

/// The result of this response for a caller that requests these types, or else the default ones.
async fn fetch_accepting(accept: &[&str], reply: Reply) -> Result<Vec<u8>, tonic::Status> {
    let Call::Manifest(mut request) = Call::manifest(REGISTRY, "org/app", "v1") else { panic!() };
    request.accept_media_types = accept.iter().map(|media_type| (*media_type).to_owned()).collect();
    let response = with(reply).await.client.get_manifest(request).await?;
    Ok(response.into_inner().content.to_vec())
}

#[tokio::test]
async fn json_without_a_requested_content_type_or_media_type_is_refused() {
    let json = "application/json";
    let error = json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "sign in" }] }).to_string();
    let unnamed = json!({ "schemaVersion": 2, "config": {}, "layers": [] }).to_string();
    for (accept, content) in [
        (vec![], &error),
        (vec![], &unnamed),
        (vec![json], &error),
        (vec!["*/*"], &error),
        (vec!["application/x"], &unnamed),
        (vec!["text/*"], &unnamed),
    ] {
        let status = fetch_accepting(&accept, document(json, content)).await.unwrap_err();
        let failure = Failure::expect(status, INVALID.0, INVALID.1, &format!("{accept:?} {content}"));
        assert!(failure.status.message().contains(json), "{:?}", failure.status);
    }
    for accept in [json, "Application/JSON", "application/*", "*/*"] {
        let content = fetch_accepting(&["a/b", accept], document(json, &unnamed)).await;
        assert_eq!(content.unwrap(), unnamed.as_bytes(), "{accept}");
    }
}

#[tokio::test]
async fn the_media_type_field_replaces_a_missing_content_type_and_one_of_them_is_required() {
    let content = image("a");
    let manifest = with(Reply::status(200).body(content.clone())).await.manifest("").await.unwrap();
    assert_eq!(manifest.content_descriptor.unwrap().media_type, OCI_MANIFEST);
    let mut bare: Value = serde_json::from_str(&content).unwrap();
    bare.as_object_mut().unwrap().remove("mediaType");
    refused(Reply::status(200).body(bare.to_string()), INVALID.0, INVALID.1).await;
}

#[tokio::test]
async fn the_accept_header_has_six_types_or_those_of_the_caller() {
    let mut setting = Setting::new().await;
    setting.registry.always("GET", MANIFEST_TARGET, document(OCI_MANIFEST, &image("a")));
    setting.manifest("").await.unwrap();
    let Call::Manifest(mut request) = Call::manifest(REGISTRY, "org/app", "v1") else { panic!() };
    request.accept_media_types = vec!["application/x".to_owned(), "a/b+json".to_owned()];
    setting.client.get_manifest(request).await.unwrap();
    let requests = setting.registry.requests();
    let accepts: Vec<&str> = requests.iter().filter_map(|request| request.header("accept")).collect();
    assert_eq!(accepts[0].split(", ").count(), 6, "{accepts:?}");
    assert!(accepts[0].contains(OCI_MANIFEST) && accepts[0].contains(OCI_INDEX));
    assert_eq!(accepts[1], "application/x, a/b+json");
}

#[tokio::test]
async fn the_typed_view_is_left_out_when_the_response_would_exceed_4_mib() {
    let mut large: Value = serde_json::from_str(&image("a")).unwrap();
    large["annotations"] = json!({ "org.example.large": "x".repeat(3 << 20) });
    let large = large.to_string();
    let manifest = with(document(OCI_MANIFEST, &large)).await.manifest("").await.unwrap();
    assert!(manifest.content == large && manifest.manifest.is_none());
}
