//! The five RPCs as one type, so that a test of all of them is one table.

use rexd::grpc::proto::{
    GetManifestRequest, ListCatalogRequest, ListTagsRequest, PingRequest, StreamBlobRequest,
    registry_service_client::RegistryServiceClient, stream_blob_response::Frame,
};
use tonic::{Request, Status, transport::Channel};

use super::status::Failure;

/// A request of any RPC.
#[derive(Clone, Debug)]
pub enum Call {
    Ping(PingRequest),
    Catalog(ListCatalogRequest),
    Tags(ListTagsRequest),
    Manifest(GetManifestRequest),
    Blob(StreamBlobRequest),
}

/// The sha256 digest of empty content.
pub const EMPTY_DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl Call {
    pub fn ping(registry: &str) -> Self {
        Self::Ping(PingRequest { registry: registry.to_owned() })
    }

    pub fn catalog(registry: &str) -> Self {
        Self::Catalog(ListCatalogRequest { registry: registry.to_owned(), ..ListCatalogRequest::default() })
    }

    pub fn tags(registry: &str, repository: &str) -> Self {
        Self::Tags(ListTagsRequest {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            ..ListTagsRequest::default()
        })
    }

    pub fn manifest(registry: &str, repository: &str, reference: &str) -> Self {
        Self::Manifest(GetManifestRequest {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            reference: reference.to_owned(),
            ..GetManifestRequest::default()
        })
    }

    pub fn blob(registry: &str, repository: &str, digest: &str) -> Self {
        Self::Blob(StreamBlobRequest {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            digest: digest.to_owned(),
            ..StreamBlobRequest::default()
        })
    }

    /// One well-formed request of each RPC.
    pub fn each(registry: &str) -> [Self; 5] {
        [
            Self::ping(registry),
            Self::catalog(registry),
            Self::tags(registry, "org/app"),
            Self::manifest(registry, "org/app", "v1"),
            Self::blob(registry, "org/app", EMPTY_DIGEST),
        ]
    }

    /// One well-formed request of each RPC that names a repository.
    pub fn each_with_repository(registry: &str, repository: &str) -> [Self; 3] {
        [
            Self::tags(registry, repository),
            Self::manifest(registry, repository, "v1"),
            Self::blob(registry, repository, EMPTY_DIGEST),
        ]
    }

    /// Makes the call, reads a stream to its end, and returns the status if it failed.
    pub async fn outcome(&self, client: &mut RegistryServiceClient<Channel>) -> Result<(), Status> {
        self.outcome_as(client, "").await
    }

    /// As [`outcome`](Self::outcome), with this `authorization` unless it is empty.
    pub async fn outcome_as(
        &self,
        client: &mut RegistryServiceClient<Channel>,
        authorization: &str,
    ) -> Result<(), Status> {
        match self.clone() {
            Self::Ping(request) => client.ping(with_authorization(request, authorization)).await.map(drop),
            Self::Catalog(request) => {
                client.list_catalog(with_authorization(request, authorization)).await.map(drop)
            }
            Self::Tags(request) => {
                client.list_tags(with_authorization(request, authorization)).await.map(drop)
            }
            Self::Manifest(request) => {
                client.get_manifest(with_authorization(request, authorization)).await.map(drop)
            }
            Self::Blob(request) => {
                let mut stream =
                    client.stream_blob(with_authorization(request, authorization)).await?.into_inner();
                let mut last = None;
                while let Some(message) = stream.message().await? {
                    last = message.frame;
                }
                assert!(matches!(last, Some(Frame::Trailer(_))), "OK without a trailer");
                Ok(())
            }
        }
    }

    /// Makes the call, which must fail.
    pub async fn failure(&self, client: &mut RegistryServiceClient<Channel>) -> Failure {
        match self.outcome(client).await {
            Ok(()) => panic!("succeeded: {self:?}"),
            Err(status) => Failure::of(status),
        }
    }
}

fn with_authorization<T>(message: T, authorization: &str) -> Request<T> {
    let mut request = Request::new(message);
    if !authorization.is_empty() {
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    }
    request
}
