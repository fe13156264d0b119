//! The handlers of the five RPCs. Each one parses the request, checks that it is allowed, calls the client and encodes
//! the response.

use std::sync::Arc;

use tonic::{Request, Response, Status, metadata::MetadataValue};

use self::{
    admission::Admission,
    convert::Call,
    deadline::Deadline,
    frame::{BlobMessages, UnusedStream},
};
use crate::{
    callers::{CallCredentials, Callers},
    client::{Client, Share},
    error::RexError,
    policy::Policy,
    server::{Peer, Shutdown, Watchdog},
    telemetry,
};

mod admission;
mod body;
mod convert;
mod deadline;
mod frame;
mod large_response;
pub mod proto;
mod stall;
mod status;
pub mod wire;

pub use admission::StreamLimits;
pub use body::ReplaceBody;

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
pub type RegistriesServer = ReplaceBody<RegistryServiceServer<Registries>>;

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
        ReplaceBody::new(RegistryServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES))
    }

    /// Identifies the caller; the returned value reads its request.
    async fn call<T>(&self, request: &Request<T>) -> Result<Call<'_>, RexError> {
        let authorization = request.metadata().get("authorization").map(MetadataValue::as_encoded_bytes);
        let peer = request.extensions().get::<Peer>();
        let certificate = peer.and_then(|peer| peer.identity.as_ref());
        let caller = self.callers.identify(CallCredentials { authorization, certificate }).await?;
        telemetry::caller(caller.name());
        let share = match (&*self.callers, peer) {
            // All calls have the same caller: the next best is to share by address.
            (Callers::Anybody(_), Some(peer)) => Share::of(peer.address.ip()),
            _ => Share::of(caller.name()),
        };
        Ok(Call { policy: &self.policy, caller, share })
    }
}

#[tonic::async_trait]
impl RegistryService for Registries {
    async fn ping(
        &self,
        request: Request<proto::PingRequest>,
    ) -> Result<Response<proto::PingResponse>, Status> {
        let deadline = Deadline::from_metadata(request.metadata());
        telemetry::rpc(
            "Ping",
            request.metadata(),
            deadline.run(async {
                let call = self.call(&request).await?;
                let registry = call.ping(request.get_ref())?;
                let pong = self.client.ping(&registry, &call.context(deadline)).await?;
                Ok(Response::new(convert::ping_response(&registry, pong)))
            }),
        )
        .await
    }

    async fn list_catalog(
        &self,
        request: Request<proto::ListCatalogRequest>,
    ) -> Result<Response<proto::ListCatalogResponse>, Status> {
        let deadline = Deadline::from_metadata(request.metadata());
        telemetry::rpc(
            "ListCatalog",
            request.metadata(),
            deadline.run(async {
                let call = self.call(&request).await?;
                let page = call.catalog(request.get_ref())?;
                let page = self.client.list(&page, &call.context(deadline)).await?;
                large_response::respond(convert::catalog_response(page), &request, &self.admission, deadline)
            }),
        )
        .await
    }

    async fn list_tags(
        &self,
        request: Request<proto::ListTagsRequest>,
    ) -> Result<Response<proto::ListTagsResponse>, Status> {
        let deadline = Deadline::from_metadata(request.metadata());
        telemetry::rpc(
            "ListTags",
            request.metadata(),
            deadline.run(async {
                let call = self.call(&request).await?;
                let page = call.tags(request.get_ref())?;
                let page = self.client.list(&page, &call.context(deadline)).await?;
                large_response::respond(convert::tags_response(page), &request, &self.admission, deadline)
            }),
        )
        .await
    }

    async fn get_manifest(
        &self,
        request: Request<proto::GetManifestRequest>,
    ) -> Result<Response<proto::GetManifestResponse>, Status> {
        let deadline = Deadline::from_metadata(request.metadata());
        telemetry::rpc(
            "GetManifest",
            request.metadata(),
            deadline.run(async {
                let call = self.call(&request).await?;
                let (target, reference, options) = call.manifest(request.get_ref())?;
                let context = call.context(deadline);
                let manifest = self.client.manifest(&target, &reference, &options, &context).await?;
                large_response::respond(
                    convert::manifest_response(manifest),
                    &request,
                    &self.admission,
                    deadline,
                )
            }),
        )
        .await
    }

    /// No message passes through it: `body` replaces the response's body.
    type StreamBlobStream = UnusedStream;

    async fn stream_blob(
        &self,
        mut request: Request<proto::StreamBlobRequest>,
    ) -> Result<Response<UnusedStream>, Status> {
        let deadline = Deadline::from_metadata(request.metadata());
        let watchdog = request.extensions_mut().remove::<Watchdog>();
        let shutdown = request.extensions_mut().remove::<Shutdown>();
        let call = deadline.run(async {
            let call = self.call(&request).await?;
            let (target, digest, range, chunk_bytes) = call.blob(request.get_ref())?;
            let permit = self.admission.admit_stream(chunk_bytes)?;
            let blob = self.client.blob(&target, &digest, range, call.context(deadline)).await?;
            let frames = BlobMessages::new(blob, range.offset, chunk_bytes, permit, deadline, shutdown);
            Ok(Response::new(frames))
        });
        let frames = telemetry::rpc("StreamBlob", request.metadata(), call).await?.into_inner();
        if let Some(watchdog) = watchdog {
            watchdog.set(stall::watch(frames.shared(), self.admission.write_stall(), deadline));
        }
        Ok(body::response(frames))
    }
}
