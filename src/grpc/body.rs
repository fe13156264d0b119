//! The HTTP/2 bodies that the generated code does not make: those of `StreamBlob` and of responses whose memory is
//! reserved.
//!
//! The generated code decodes the request, calls the handler and sets the headers, as for every RPC. Only the body is
//! replaced. For a stream, the handler passes it in an extension of its response, and [`ReplaceBody`] takes it from there.
//! So do the other RPCs with the bytes of their encoded message, whose memory stays reserved until they have left.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, future, stream};
use http_body::Frame;
use tonic::{Response, Status, body::Body, server::NamedService};
use tower_service::Service;

use super::{
    frame::{BlobMessages, UnusedStream},
    unary_response,
    wire::Framed,
};

type Frames = Pin<Box<dyn Stream<Item = Result<Framed, Status>> + Send>>;

/// The messages of a stream as the frames of a body.
struct BlobBody {
    /// `None` after the trailers were sent.
    frames: Option<Frames>,
    /// The blob's bytes of the message whose prefix was sent last.
    data: Bytes,
}

impl http_body::Body for BlobBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.data)))));
        }
        let Some(frames) = &mut self.frames else {
            return Poll::Ready(None);
        };
        let end = match std::task::ready!(frames.as_mut().poll_next(context)) {
            Some(Ok(Framed { prefix, data })) => {
                self.data = data;
                return Poll::Ready(Some(Ok(Frame::data(prefix))));
            }
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.frames = None;
        let mut trailers = http::HeaderMap::new();
        Poll::Ready(Some(end.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }
}

/// The extension that passes the body; extensions must be `Clone` and `Sync`, and a body is neither.
#[derive(Clone)]
struct BodySlot(Arc<Mutex<Option<Frames>>>);

/// The handler's response: an empty stream, with the messages in an extension.
pub(super) fn response(frames: BlobMessages) -> Response<UnusedStream> {
    let mut response = Response::new(stream::empty());
    let frames: Frames = Box::pin(frames.into_stream());
    response.extensions_mut().insert(BodySlot(Arc::new(Mutex::new(Some(frames)))));
    response
}

fn replace_body(mut response: http::Response<Body>) -> http::Response<Body> {
    let carried = response.extensions_mut().remove::<BodySlot>();
    let frames =
        carried.and_then(|BodySlot(slot)| slot.lock().unwrap_or_else(PoisonError::into_inner).take());
    match frames {
        None => unary_response::replace_body(response),
        Some(frames) => response.map(|_| Body::new(BlobBody { frames: Some(frames), data: Bytes::new() })),
    }
}

/// A generated server whose responses get their bodies replaced.
#[derive(Debug, Clone)]
pub struct ReplaceBody<S>(S);

impl<S> ReplaceBody<S> {
    pub(super) fn new(server: S) -> Self {
        Self(server)
    }
}

impl<S: NamedService> NamedService for ReplaceBody<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, R> Service<R> for ReplaceBody<S>
where
    S: Service<R, Response = http::Response<Body>, Error = Infallible>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = future::MapOk<S::Future, fn(http::Response<Body>) -> http::Response<Body>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        future::TryFutureExt::map_ok(self.0.call(request), replace_body as fn(_) -> _)
    }
}
