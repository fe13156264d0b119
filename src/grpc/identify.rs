//! Identifies the caller of a request from its headers, before its message is read.
//!
//! The generated server calls a handler when the message is complete. A peer without credentials must not make the
//! service wait for one, or hold it.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::Either;
use tonic::{
    Code, Response, Status,
    body::Body,
    metadata::{MetadataMap, MetadataValue},
    server::NamedService,
};
use tower_service::Service;

use super::{caller_limits::keep_permit, deadline::Deadline};
use crate::{
    callers::{CallCredentials, Callers, Identified},
    server::{Peer, UnknownCallers},
    telemetry::CallRecord,
};

/// A server whose requests carry their [`Caller`](crate::policy::Caller) as an extension, and the caller's limiter if it has
/// limits. A request without a known caller does not reach it.
#[derive(Debug, Clone)]
pub struct IdentifyCaller<S> {
    callers: Arc<Callers>,
    server: S,
}

impl<S> IdentifyCaller<S> {
    pub(super) fn new(callers: Arc<Callers>, server: S) -> Self {
        Self { callers, server }
    }
}

impl<S: NamedService> NamedService for IdentifyCaller<S> {
    const NAME: &'static str = S::NAME;
}

type Outcome = Result<http::Response<Body>, Infallible>;

impl<S> Service<http::Request<Body>> for IdentifyCaller<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    /// Where anybody may call, that of the server, and nothing is allocated.
    type Future = Either<S::Future, Pin<Box<dyn Future<Output = Outcome> + Send>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.server.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Callers::Anybody(caller) = &*self.callers {
            request.extensions_mut().insert(caller.clone());
            return Either::Left(self.server.call(request));
        }
        // The generated server is always ready: its clone needs no `poll_ready`.
        let (callers, mut server) = (Arc::clone(&self.callers), self.server.clone());
        Either::Right(Box::pin(async move {
            match identify(&callers, request).await {
                Ok(request) => server.call(request).await.map(keep_permit),
                Err(status) => Ok(status.into_http()),
            }
        }))
    }
}

/// The request with its caller.
async fn identify(callers: &Callers, request: http::Request<Body>) -> Result<http::Request<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    let metadata = MetadataMap::from_headers(std::mem::take(&mut parts.headers));
    let credentials = CallCredentials {
        authorization: metadata.get("authorization").map(MetadataValue::as_encoded_bytes),
        certificate: parts.extensions.get::<Peer>().and_then(|peer| peer.identity.as_ref()),
    };
    let caller = Deadline::from_metadata(&metadata)
        .run(async { callers.identify(credentials).await.map(Response::new) })
        .await;
    let unknown_callers = parts.extensions.get::<UnknownCallers>();
    match caller {
        Ok(caller) => {
            if let Some(unknown_callers) = unknown_callers {
                unknown_callers.identified();
            }
            let Identified { caller, limiter } = caller.into_inner();
            parts.extensions.insert(caller);
            if let Some(limiter) = limiter {
                parts.extensions.insert(limiter);
            }
            parts.headers = metadata.into_headers();
            Ok(http::Request::from_parts(parts, body))
        }
        Err(status) => {
            if let (Some(unknown_callers), Code::Unauthenticated) = (unknown_callers, status.code()) {
                unknown_callers.refused();
            }
            // No handler logs this call.
            let refused = std::future::ready(Err::<Response<Infallible>, _>(status));
            let peer = parts.extensions.get::<Peer>().map(|peer| peer.address.ip());
            let record = CallRecord::begin(method(parts.uri.path()), &metadata, peer);
            match record.unary(refused).await {
                Ok(response) => match response.into_inner() {},
                Err(status) => Err(status),
            }
        }
    }
}

/// The name of the RPC, as its handler logs it.
fn method(path: &str) -> &'static str {
    let name = path.rsplit('/').next();
    let known = ["Ping", "ListCatalog", "ListTags", "GetManifest", "StreamBlob"];
    known.into_iter().find(|known| name == Some(known)).unwrap_or("unknown")
}
