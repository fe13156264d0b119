//! The handlers of the five RPCs. Each one parses the request, checks that it is allowed, calls the client and encodes
//! the response.
//!
//! | file | what it does |
//! |---|---|
//! | `identify` | identifies the caller from the headers, before the message is read |
//! | `convert`, `proto` | the API's messages, and the domain's types |
//! | `deadline` | the caller's deadline |
//! | `admission` | limits on streams, and on their memory |
//! | `caller_limits` | the caller's own limits |
//! | `encoded_manifest` | the response of `GetManifest`, encoded once for all who get it |
//! | `source` | the metadata that says where a response came from |
//! | `body`, `frame`, `wire` | the body of `StreamBlob`: its messages, encoded without a copy |
//! | `stall`, `unary_response` | what happens when a caller does not read |
//! | `status` | the status of an error |

use std::sync::Arc;

use prost::Message as _;
use tonic::{Request, Response, Status};

use self::{
    admission::Admission,
    convert::Call,
    deadline::Deadline,
    frame::{BlobMessages, UnusedStream},
};
use crate::{
    callers::{CallKind, Callers},
    client::Share,
    error::RexError,
    memory::MemoryAccount,
    policy::{Caller, Policy},
    reads::Reads,
    server::{Peer, Shutdown, Watchdog},
    telemetry::CallRecord,
};

mod admission;
mod body;
mod caller_limits;
mod convert;
mod deadline;
mod encoded_manifest;
mod frame;
mod identify;
pub mod proto;
mod source;
mod stall;
mod status;
mod unary_response;
pub mod wire;

pub use admission::StreamLimits;
pub use body::ReplaceBody;
pub use encoded_manifest::EncodedManifest;
pub use identify::IdentifyCaller;

use proto::registry_service_server::{RegistryService, RegistryServiceServer};

/// The API's requests are a few hundred bytes; a page token may be 16 KiB.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// The service behind the five RPCs.
#[derive(Clone)]
pub struct Registries {
    reads: Reads<EncodedManifest>,
    callers: Arc<Callers>,
    policy: Arc<Policy>,
    admission: Admission,
}

/// The record of a call that begins now.
fn record<T>(method: &'static str, request: &Request<T>) -> CallRecord {
    let peer = request.extensions().get::<Peer>();
    CallRecord::begin(method, request.metadata(), peer.map(|peer| peer.address.ip()))
}

/// The service as the server mounts it.
pub type RegistriesServer = IdentifyCaller<ReplaceBody<RegistryServiceServer<Registries>>>;

impl Registries {
    /// A service that reads registries for `callers`, as far as `policy` allows.
    #[must_use]
    pub fn new(
        reads: Reads<EncodedManifest>,
        callers: Callers,
        policy: Policy,
        limits: StreamLimits,
    ) -> Self {
        let (callers, policy) = (Arc::new(callers), Arc::new(policy));
        Self { reads, callers, policy, admission: Admission::new(limits) }
    }

    /// The service, ready to be mounted.
    #[must_use]
    pub fn into_server(self) -> RegistriesServer {
        let callers = Arc::clone(&self.callers);
        let server = RegistryServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES);
        IdentifyCaller::new(callers, ReplaceBody::new(server))
    }

    /// Reads the request of its caller, which [`IdentifyCaller`] has put into the extensions.
    fn call<T>(&self, request: &Request<T>, record: &CallRecord) -> Result<Call<'_>, RexError> {
        let caller = request.extensions().get::<Caller>().cloned();
        let caller = caller
            .ok_or_else(|| RexError::CallerUnknown { problem: "the caller was not identified".to_owned() })?;
        record.caller(caller.name());
        let peer = request.extensions().get::<Peer>();
        let share = match (&*self.callers, peer) {
            // All calls have the same caller, so permits are shared by address instead.
            (Callers::Anybody(_), Some(peer)) => Share::of(peer.address.ip()),
            _ => Share::of(caller.name()),
        };
        let peer_memory = request.extensions().get::<MemoryAccount>();
        let memory = match (&*self.callers, peer_memory) {
            (Callers::Anybody(_), Some(memory)) => memory.clone(),
            (Callers::Anybody(_), None) => self.admission.account(),
            (_, Some(memory)) => memory.with_caller(caller.name()),
            (_, None) => self.admission.account().with_caller(caller.name()),
        };
        Ok(Call { policy: &self.policy, caller, share, memory })
    }

    /// The response to a call, within the memory of its caller.
    fn respond<A: prost::Message + Default>(
        &self,
        message: A,
        request: &Request<impl Sized>,
        call: &Call<'_>,
        record: &CallRecord,
        deadline: Deadline,
    ) -> Result<Response<A>, RexError> {
        record.sent(message.encoded_len());
        let watchdog = request.extensions().get::<Watchdog>();
        unary_response::respond(message, watchdog, &call.memory, self.admission.write_stall(), deadline)
    }
}

#[tonic::async_trait]
impl RegistryService for Registries {
    async fn ping(
        &self,
        request: Request<proto::PingRequest>,
    ) -> Result<Response<proto::PingResponse>, Status> {
        let deadline = Deadline::from_metadata(request.metadata());
        let record = record("Ping", &request);
        let call = deadline.run(async {
            let call = self.call(&request, &record)?;
            let registry = call.ping(request.get_ref())?;
            record.subject_is(&registry, None, None);
            let permit = caller_limits::admit(&request, CallKind::Unary)?;
            let context = call.context(deadline, &record);
            let pong = self.reads.ping(&registry, &context).await?;
            let response = convert::ping_response(&registry, pong);
            record.sent(response.encoded_len());
            Ok(permit.attach(Response::new(response)))
        });
        record.unary(call).await
    }

    async fn list_catalog(
        &self,
        request: Request<proto::ListCatalogRequest>,
    ) -> Result<Response<proto::ListCatalogResponse>, Status> {
        let deadline = Deadline::from_metadata(request.metadata());
        let record = record("ListCatalog", &request);
        let call = deadline.run(async {
            let call = self.call(&request, &record)?;
            let (page, max_age) = call.catalog(request.get_ref())?;
            let (registry, repository) = page.listing.place();
            record.subject_is(registry, repository, None);
            let permit = caller_limits::admit(&request, CallKind::Unary)?;
            let page = self.reads.list(page, max_age, &call.context(deadline, &record)).await?;
            let response = convert::catalog_response(&page.value);
            let response = self.respond(response, &request, &call, &record, deadline)?;
            Ok(permit.attach(source::add(response, &page, &record)))
        });
        record.unary(call).await
    }

    async fn list_tags(
        &self,
        request: Request<proto::ListTagsRequest>,
    ) -> Result<Response<proto::ListTagsResponse>, Status> {
        let deadline = Deadline::from_metadata(request.metadata());
        let record = record("ListTags", &request);
        let call = deadline.run(async {
            let call = self.call(&request, &record)?;
            let (page, max_age) = call.tags(request.get_ref())?;
            let (registry, repository) = page.listing.place();
            record.subject_is(registry, repository, None);
            let permit = caller_limits::admit(&request, CallKind::Unary)?;
            let page = self.reads.list(page, max_age, &call.context(deadline, &record)).await?;
            let response = convert::tags_response(&page.value);
            let response = self.respond(response, &request, &call, &record, deadline)?;
            Ok(permit.attach(source::add(response, &page, &record)))
        });
        record.unary(call).await
    }

    async fn get_manifest(
        &self,
        request: Request<proto::GetManifestRequest>,
    ) -> Result<Response<proto::GetManifestResponse>, Status> {
        let deadline = Deadline::from_metadata(request.metadata());
        let record = record("GetManifest", &request);
        let call = deadline.run(async {
            let call = self.call(&request, &record)?;
            let (target, reference, options) = call.manifest(request.get_ref())?;
            record.subject_is(&target.registry, Some(&target.repository), Some(reference.as_str()));
            let permit = caller_limits::admit(&request, CallKind::Unary)?;
            let context = call.context(deadline, &record);
            let read = self.reads.manifest(&target, &reference, &options, &context).await?;
            let frame = read.value.manifest.view.frame(read.value.index.as_deref());
            record.sent(frame.len());
            let watchdog = request.extensions().get::<Watchdog>();
            let write_stall = self.admission.write_stall();
            let response =
                unary_response::respond_encoded(frame, watchdog, &call.memory, write_stall, deadline)?;
            Ok(permit.attach(source::add(response, &read, &record)))
        });
        record.unary(call).await
    }

    /// No message passes through it: `body` replaces the response's body.
    type StreamBlobStream = UnusedStream;

    async fn stream_blob(
        &self,
        mut request: Request<proto::StreamBlobRequest>,
    ) -> Result<Response<UnusedStream>, Status> {
        let deadline = Deadline::from_metadata(request.metadata());
        let record = record("StreamBlob", &request);
        let watchdog = request.extensions_mut().remove::<Watchdog>();
        let shutdown = request.extensions_mut().remove::<Shutdown>();
        let call = deadline.run(async {
            let call = self.call(&request, &record)?;
            let (target, digest, range, chunk_bytes) = call.blob(request.get_ref())?;
            record.subject_is(&target.registry, Some(&target.repository), Some(digest.as_str()));
            let call_permit = caller_limits::admit(&request, CallKind::Stream)?;
            let chunk_bytes = call_permit.chunk_bytes(chunk_bytes);
            let permits = (self.admission.admit_stream(chunk_bytes, &call.memory)?, call_permit);
            let blob = self.reads.blob(&target, &digest, range, call.context(deadline, &record)).await?;
            let blob = blob.map(|blob| {
                let record = record.clone();
                BlobMessages::new(blob, range.offset, chunk_bytes, permits, deadline, shutdown, record)
            });
            Ok(source::response(blob, &record))
        });
        let (metadata, frames, _) = record.stream(call).await?.into_parts();
        if let Some(watchdog) = watchdog {
            watchdog.set(stall::watch(frames.shared(), self.admission.write_stall(), deadline));
        }
        let mut response = body::response(frames);
        *response.metadata_mut() = metadata;
        Ok(response)
    }
}
