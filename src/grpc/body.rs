//! The HTTP/2 bodies that are not the generated ones: of `StreamBlob`, and of large answers (see `unread`).
//!
//! The generated code decodes the request, calls the handler and sets the headers, as for every RPC. Only the body is
//! different: that of a stream rides as an extension on the handler's response, and [`FrameBodies`] puts it in place of
//! the generated one; that of a large answer is the generated one in pieces. So nothing else about the route is hand-made.

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
    frame::{BlobFrames, NoStream},
    unread,
    wire::Framed,
};

type Frames = Pin<Box<dyn Stream<Item = Result<Framed, Status>> + Send>>;

/// The messages of a stream as the frames of a body.
struct FrameBody {
    /// `None` once the trailers were sent.
    frames: Option<Frames>,
    /// The registry's bytes of the message whose prefix was sent last.
    data: Bytes,
}

impl http_body::Body for FrameBody {
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

/// What carries the body from the handler to here; extensions must be `Clone` and `Sync`, a body is neither.
#[derive(Clone)]
struct Carried(Arc<Mutex<Option<Frames>>>);

/// The handler's response: the messages, on an empty stream.
pub(super) fn carry(frames: BlobFrames) -> Response<NoStream> {
    let mut response = Response::new(stream::empty());
    let frames: Frames = Box::pin(frames.into_stream());
    response.extensions_mut().insert(Carried(Arc::new(Mutex::new(Some(frames)))));
    response
}

fn in_place(mut response: http::Response<Body>) -> http::Response<Body> {
    let carried = response.extensions_mut().remove::<Carried>();
    let frames = carried.and_then(|Carried(slot)| slot.lock().unwrap_or_else(PoisonError::into_inner).take());
    match frames {
        None => unread::in_pieces(response),
        Some(frames) => response.map(|_| Body::new(FrameBody { frames: Some(frames), data: Bytes::new() })),
    }
}

/// A generated server whose hand-made bodies are put in place.
#[derive(Debug, Clone)]
pub struct FrameBodies<S>(S);

impl<S> FrameBodies<S> {
    pub(super) fn new(server: S) -> Self {
        Self(server)
    }
}

impl<S: NamedService> NamedService for FrameBodies<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, R> Service<R> for FrameBodies<S>
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
        future::TryFutureExt::map_ok(self.0.call(request), in_place as fn(_) -> _)
    }
}
