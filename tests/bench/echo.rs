//! The baseline for the service's unary calls in `tests/bench/compare`: tonic with its own server and without layers. It
//! serves `grpc.health.v1.Health/Check` and prints the port it listens on.
//!
//! With `--like`, it asks that service for a manifest at its start, and serves `GetManifest` with the same response.

use std::error::Error;

use clap::Parser;
use rexd::grpc::proto::{
    GetManifestRequest, GetManifestResponse, ListCatalogRequest, ListCatalogResponse, ListTagsRequest,
    ListTagsResponse, PingRequest, PingResponse, StreamBlobRequest, StreamBlobResponse,
    registry_service_client::RegistryServiceClient,
    registry_service_server::{RegistryService, RegistryServiceServer},
};
use tokio::net::TcpListener;
use tokio_stream::Empty;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

#[derive(Parser)]
struct Arguments {
    /// Address of the service whose response is served: `http://127.0.0.1:50051`.
    #[arg(long, requires_all = ["repository", "reference"])]
    like: Option<String>,
    #[arg(long, default_value = "")]
    repository: String,
    #[arg(long, default_value = "")]
    reference: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { like, repository, reference } = Arguments::parse();
    let mut manifest = None;
    if let Some(address) = like {
        let request = GetManifestRequest { repository, reference, ..GetManifestRequest::default() };
        let response = RegistryServiceClient::connect(address).await?.get_manifest(request).await?;
        manifest = Some(SameManifest(response.into_inner()));
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    let (_, health) = tonic_health::server::health_reporter();
    Server::builder()
        .add_service(health)
        .add_optional_service(manifest.map(RegistryServiceServer::new))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}

/// Responds to every `GetManifest` with the same manifest, and to nothing else.
struct SameManifest(GetManifestResponse);

#[tonic::async_trait]
impl RegistryService for SameManifest {
    type StreamBlobStream = Empty<Result<StreamBlobResponse, Status>>;

    async fn get_manifest(
        &self,
        _: Request<GetManifestRequest>,
    ) -> Result<Response<GetManifestResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        Err(Status::unimplemented("only GetManifest"))
    }

    async fn list_catalog(
        &self,
        _: Request<ListCatalogRequest>,
    ) -> Result<Response<ListCatalogResponse>, Status> {
        Err(Status::unimplemented("only GetManifest"))
    }

    async fn list_tags(&self, _: Request<ListTagsRequest>) -> Result<Response<ListTagsResponse>, Status> {
        Err(Status::unimplemented("only GetManifest"))
    }

    async fn stream_blob(
        &self,
        _: Request<StreamBlobRequest>,
    ) -> Result<Response<Self::StreamBlobStream>, Status> {
        Err(Status::unimplemented("only GetManifest"))
    }
}
