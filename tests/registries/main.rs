//! Registries that misbehave: the status or the result that each known quirk and fault becomes for the caller. The registry is
//! scripted, and a request that the script does not expect is a failure of the test.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod bodies;
mod errors;
mod large_bodies;
mod lists;
mod manifests;
mod page_parameters;
mod pages;
mod platforms;
mod request_counts;
mod retries;
mod secrets;
mod slow_blobs;
mod slow_bodies;
#[path = "../support/mod.rs"]
mod support;
mod unavailable;

use rexd::grpc::proto::{
    GetManifestResponse, ListTagsRequest, ListTagsResponse, registry_service_client::RegistryServiceClient,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use support::{
    call::Call,
    scripted::{Reply, ScriptedRegistry},
    service::{Options, Service, settings},
    status::Failure,
};
use tonic::{Code, Status, transport::Channel};

const REGISTRY: &str = "registry.test:5000";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A scripted registry, a service in front of it, and a client.
struct Setting {
    registry: ScriptedRegistry,
    client: RegistryServiceClient<Channel>,
    _service: Service,
}

impl Setting {
    async fn new() -> Self {
        Self::called(REGISTRY, Options::default()).await
    }

    async fn called(name: &str, options: Options) -> Self {
        let registry = ScriptedRegistry::start().await;
        let service = Service::start(vec![settings(name, registry.address())], options).await;
        let client = service.client().await;
        Self { registry, client, _service: service }
    }

    /// One page of the tags of `org/app`.
    async fn tags(&mut self, page_size: i32, page_token: &str) -> Result<ListTagsResponse, Status> {
        let request = ListTagsRequest {
            registry: String::new(),
            repository: "org/app".to_owned(),
            page_size,
            page_token: page_token.to_owned(),
            max_age: None,
        };
        self.client.list_tags(request).await.map(tonic::Response::into_inner)
    }

    /// The manifest `v1` of `org/app`, or its entry for a platform.
    async fn manifest(&mut self, platform: &str) -> Result<GetManifestResponse, Status> {
        let Call::Manifest(mut request) = Call::manifest("", "org/app", "v1") else {
            panic!("another call");
        };
        request.platform = platform.to_owned();
        self.client.get_manifest(request).await.map(tonic::Response::into_inner)
    }

    /// The failure of a call that must fail in this way.
    async fn fails(&mut self, call: &Call, code: Code, reason: &str) -> Failure {
        let failure = call.failure(&mut self.client).await;
        let found = (failure.status.code(), failure.reason.as_str());
        assert_eq!(found, (code, reason), "{call:?}: {:?}", failure.status);
        failure
    }

    /// Whether the registry got every expected request, and no other.
    fn got_expected_requests(&self) -> bool {
        self.registry.unexpected().is_empty() && self.registry.missing().is_empty()
    }
}

/// The target of a request for the manifest `v1` of `org/app`.
const MANIFEST_TARGET: &str = "/v2/org/app/manifests/v1";

/// A manifest of a media type, with the headers a registry sends.
fn document(media_type: &str, content: &str) -> Reply {
    Reply::status(200)
        .header("Content-Type", media_type)
        .header("Docker-Content-Digest", sha256(content.as_bytes()))
        .body(content)
}

/// An image manifest, different for each `name`.
fn image(name: &str) -> String {
    let config = serde_json::json!({
        "mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(name.as_bytes()), "size": name.len(),
    });
    serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [] })
        .to_string()
}

/// An index over entries, each a manifest's media type, content and platform.
fn index(entries: &[(&str, &str, &str)]) -> Value {
    let manifests: Vec<Value> = entries
        .iter()
        .map(|(media_type, content, platform)| {
            let mut parts = platform.split('/');
            let mut entry = serde_json::json!({
                "mediaType": media_type, "digest": sha256(content.as_bytes()), "size": content.len(),
            });
            if let (Some(os), Some(architecture)) = (parts.next(), parts.next()) {
                entry["platform"] = serde_json::json!({ "os": os, "architecture": architecture });
                if let Some(variant) = parts.next() {
                    entry["platform"]["variant"] = variant.into();
                }
            }
            entry
        })
        .collect();
    serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests })
}

fn sha256(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The same bytes in chunks (RFC 9112 section 7.1), without their length.
fn chunked(head: &str, content: &[u8]) -> Reply {
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
            .into_bytes();
    for chunk in content.chunks(64 * 1024) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    Reply::Raw(bytes)
}
