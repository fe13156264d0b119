//! The five handlers and nothing else: parse, admit, call, encode. One short function an RPC.

use std::sync::Arc;

use tonic::{Request, Response, Status, metadata::MetadataValue};

use self::{
    admission::Admission,
    convert::Call,
    deadline::Deadline,
    frame::{BlobFrames, NoStream},
};
use crate::{
    callers::{CallCredentials, Callers},
    client::Client,
    error::RexError,
    policy::Policy,
    server::{Beside, Closing, Peer},
    telemetry,
};

mod admission;
mod body;
mod convert;
mod deadline;
mod frame;
mod stall;
mod status;
mod unread;
pub mod wire;

pub use admission::StreamLimits;
pub use body::FrameBodies;

/// The API's generated code and its descriptors.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "generated; the proto holds the documentation"
)]
#[allow(clippy::large_enum_variant, reason = "generated")]
pub mod proto {
    tonic::include_proto!("rex.registry.v1");

    /// The descriptors of the API, for server reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/registry_descriptor.bin"));
}

use proto::registry_service_server::{RegistryService, RegistryServiceServer};

/// The API's requests are a few hundred bytes; a page token may be 16 KiB.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// The service behind the five RPCs.
#[derive(Clone)]
pub struct Registries {
    client: Arc<Client>,
    callers: Arc<Callers>,
    policy: Arc<Policy>,
    admission: Admission,
}

/// The service as the server mounts it.
pub type RegistriesServer = FrameBodies<RegistryServiceServer<Registries>>;

impl Registries {
    /// A service that reaches registries through `client`, for `callers`, as far as `policy` allows.
    #[must_use]
    pub fn new(client: Client, callers: Callers, policy: Policy, limits: StreamLimits) -> Self {
        let (client, callers, policy) = (Arc::new(client), Arc::new(callers), Arc::new(policy));
        Self { client, callers, policy, admission: Admission::new(limits) }
    }

    /// The service, ready to be mounted.
    #[must_use]
    pub fn into_server(self) -> RegistriesServer {
        FrameBodies::new(RegistryServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES))
    }

    /// Who calls; its requests are read next.
    async fn call<T>(&self, request: &Request<T>) -> Result<Call<'_>, RexError> {
        let authorization = request.metadata().get("authorization").map(MetadataValue::as_encoded_bytes);
        let peer = request.extensions().get::<Peer>();
        let certificate = peer.and_then(|peer| peer.identity.as_ref());
        let caller = self.callers.identify(CallCredentials { authorization, certificate }).await?;
        telemetry::caller(caller.name());
        Ok(Call { policy: &self.policy, caller })
    }
}

#[tonic::async_trait]
impl RegistryService for Registries {
    async fn ping(
        &self,
        request: Request<proto::PingRequest>,
    ) -> Result<Response<proto::PingResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        telemetry::rpc(
            "Ping",
            request.metadata(),
            deadline.bound(async {
                let registry = self.call(&request).await?.ping(request.get_ref())?;
                let pong = self.client.ping(&registry, deadline.instant()).await?;
                Ok(Response::new(convert::ping_response(&registry, pong)))
            }),
        )
        .await
    }

    async fn list_catalog(
        &self,
        request: Request<proto::ListCatalogRequest>,
    ) -> Result<Response<proto::ListCatalogResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        telemetry::rpc(
            "ListCatalog",
            request.metadata(),
            deadline.bound(async {
                let page = self.call(&request).await?.catalog(request.get_ref())?;
                let page = self.client.list(&page, deadline.instant()).await?;
                unread::answer(convert::catalog_response(page), &request, &self.admission, deadline)
            }),
        )
        .await
    }

    async fn list_tags(
        &self,
        request: Request<proto::ListTagsRequest>,
    ) -> Result<Response<proto::ListTagsResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        telemetry::rpc(
            "ListTags",
            request.metadata(),
            deadline.bound(async {
                let page = self.call(&request).await?.tags(request.get_ref())?;
                let page = self.client.list(&page, deadline.instant()).await?;
                unread::answer(convert::tags_response(page), &request, &self.admission, deadline)
            }),
        )
        .await
    }

    async fn get_manifest(
        &self,
        request: Request<proto::GetManifestRequest>,
    ) -> Result<Response<proto::GetManifestResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        telemetry::rpc(
            "GetManifest",
            request.metadata(),
            deadline.bound(async {
                let (target, reference, options) = self.call(&request).await?.manifest(request.get_ref())?;
                let manifest =
                    self.client.manifest(&target, &reference, &options, deadline.instant()).await?;
                unread::answer(convert::manifest_response(manifest), &request, &self.admission, deadline)
            }),
        )
        .await
    }

    /// Its messages are written by a body of its own, which rides on the response; see `body`.
    type StreamBlobStream = NoStream;

    async fn stream_blob(
        &self,
        mut request: Request<proto::StreamBlobRequest>,
    ) -> Result<Response<NoStream>, Status> {
        let deadline = Deadline::of(request.metadata());
        let beside = request.extensions_mut().remove::<Beside>();
        let closing = request.extensions_mut().remove::<Closing>();
        let call = deadline.bound(async {
            let (target, digest, range, chunk_bytes) = self.call(&request).await?.blob(request.get_ref())?;
            let permit = self.admission.admit(chunk_bytes)?;
            let blob = self.client.blob(&target, &digest, range, deadline.instant()).await?;
            let frames = BlobFrames::new(blob, range.offset, chunk_bytes, permit, deadline, closing);
            Ok(Response::new(frames))
        });
        let frames = telemetry::rpc("StreamBlob", request.metadata(), call).await?.into_inner();
        if let Some(beside) = beside {
            beside.put(stall::watch(frames.shared(), self.admission.write_stall(), deadline));
        }
        Ok(body::carry(frames))
    }
}
