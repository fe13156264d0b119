//! Blobs at other origins: storage behind a redirect, and the `urls` of a manifest.

use rexd::grpc::proto::GetManifestRequest;
use serde_json::json;
use sha2::Sha256;
use tonic::Code;

use crate::{
    FaultProxy, REGISTRY, Received, digest, large_blob,
    support::{
        self,
        fault::{Fault, When},
        scripted::{Reply, ScriptedRegistry},
        service::{Options, Service, settings},
        status::Failure,
    },
};

/// A registry whose blobs are at another origin, each request with a signature of its own.
struct Presigned {
    registry: ScriptedRegistry,
    storage: FaultProxy,
    service: Service,
    _content: rexd::demo::DemoRegistry,
}

impl Presigned {
    async fn new(is_trusted: bool) -> Self {
        let content = support::demo_registry().await;
        let storage = FaultProxy::start(content.address());
        let registry = ScriptedRegistry::start().await;
        let mut settings = settings(REGISTRY, registry.address());
        settings.http.headers.insert("x-secret", "for the registry alone".parse().unwrap());
        if is_trusted {
            settings.http.trusted_origins = vec![format!("http://{}", storage.address()).parse().unwrap()];
        }
        let target = storage.address();
        let signature = std::sync::atomic::AtomicU32::new(0);
        registry.otherwise(move |request| {
            let number = signature.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            let location = format!("http://{target}{}?X-Amz-Signature={number}", request.target);
            Some(Reply::status(307).header("Location", location))
        });
        let service = Service::start(vec![settings], Options::default()).await;
        Self { registry, storage, service, _content: content }
    }

    async fn read(&self) -> Result<Received, tonic::Status> {
        let (request, _) = large_blob();
        Received::read(&mut self.service.client().await, request).await
    }
}

#[tokio::test]
async fn a_redirect_to_trusted_storage_is_followed_without_the_registrys_headers() {
    let presigned = Presigned::new(true).await;
    let (_, blob) = large_blob();
    assert!(presigned.read().await.unwrap().complete(&blob).digest_verified);
    let requests = presigned.registry.requests();
    assert!(requests.iter().all(|request| request.header("x-secret").is_some()));
    let stored = presigned.storage.connection_log().requests();
    assert_eq!((requests.len(), stored.len()), (1, 1));
    assert!(stored[0].header("x-secret").is_none() && stored[0].header("authorization").is_none());
}

#[tokio::test]
async fn a_lost_connection_to_storage_is_resumed_through_the_registry() {
    let presigned = Presigned::new(true).await;
    presigned.storage.inject(When::nth(1, "/blobs/"), Fault::CutAfter(2_000_000));
    presigned.storage.inject(When::nth(2, "/blobs/"), Fault::CutAfter(2_000_000));
    let (_, blob) = large_blob();
    assert_eq!(presigned.read().await.unwrap().complete(&blob).resumes, 2);
    assert_eq!(presigned.registry.requests().len(), 3);
    let stored = presigned.storage.connection_log().requests();
    for (number, request) in stored.iter().enumerate() {
        let signature = format!("X-Amz-Signature={}", number + 1);
        assert!(request.target.ends_with(&signature), "no stale signature: {}", request.target);
        let range = (number > 0).then(|| format!("bytes={}-{}", number * 2_000_000, blob.len() - 1));
        assert_eq!(request.header("range"), range.as_deref());
    }
}

#[tokio::test]
async fn a_redirect_to_an_untrusted_private_origin_is_not_followed() {
    let presigned = Presigned::new(false).await;
    let status = presigned.read().await.unwrap_err();
    Failure::expect(status, Code::PermissionDenied, "REGISTRY_NOT_ALLOWED", "storage");
    assert!(presigned.storage.connection_log().connections().is_empty());
}

#[tokio::test]
async fn urls_in_a_manifest_are_returned_and_never_followed() {
    let foreign = FaultProxy::start(([127, 0, 0, 1], 9).into());
    let urls =
        [format!("http://{}/layer", foreign.address()), format!("https://{}/layer", foreign.address())];
    let layer = digest::<Sha256>("sha256", b"a foreign layer");
    let media_type = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": digest::<Sha256>("sha256", b""),
            "size": 0,
        },
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": layer,
            "size": 15,
            "urls": urls,
        }],
    });
    let mut scripted = crate::Scripted::new().await;
    let reply = Reply::status(200).header("Content-Type", media_type).body(manifest.to_string());
    scripted.registry.on("GET", "/v2/org/app/manifests/v1", [reply]);
    scripted.registry.on("GET", &format!("/v2/org/app/blobs/{layer}"), [Reply::status(404)]);
    let request = GetManifestRequest {
        repository: "org/app".to_owned(),
        reference: "v1".to_owned(),
        ..GetManifestRequest::default()
    };
    let manifest = scripted.client.get_manifest(request).await.unwrap().into_inner();
    let Some(rexd::grpc::proto::get_manifest_response::Manifest::ImageManifest(image)) = manifest.manifest
    else {
        panic!("no image manifest");
    };
    assert_eq!(image.layers[0].urls, urls);
    let status = scripted.read(&layer, 0, 0).await.unwrap_err();
    Failure::expect(status, Code::NotFound, "BLOB_UNKNOWN", "the registry does not have it");
    assert!(foreign.connection_log().connections().is_empty());
}
