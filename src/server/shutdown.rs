//! Ends calls that outlive the server or their connection with a status instead of a reset.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::status;

/// A request extension that tells a call when it must end, because the grace period of the drain or of the connection is
/// over. The connection is closed less than half a second later.
///
/// A handler need not check it: a call without a response yet, and a stream that waits for its next message, end with
/// UNAVAILABLE. A stream that always has a message ready should check it, because such a stream is never interrupted.
#[derive(Clone, Debug)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    pub(super) fn new(token: CancellationToken) -> Self {
        Self(token)
    }

    /// Whether the call must end now.
    pub fn has_begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// The status of a call that is ended. Clients' retry policies know its code and try another replica.
    pub fn status() -> Status {
        status::unavailable("SHUTTING_DOWN", "server is shutting down")
    }

    /// Returns the response, or the status if the call must end first.
    ///
    /// The response is boxed: hyper moves the future of each call several times, and without the box it would hold the
    /// response's future three times.
    pub(super) fn end_on_shutdown<E>(
        self,
        response: impl Future<Output = Result<Response<tonic::body::Body>, E>> + Send,
    ) -> impl Future<Output = Result<Response<ShutdownBody>, E>> + Send {
        let response = Box::pin(response);
        async move {
            let response = match self.0.run_until_cancelled(response).await {
                Some(response) => response?,
                None => Self::status().into_http(),
            };
            Ok(response.map(|body| ShutdownBody { body, signal: Signal::Unpolled(self.0) }))
        }
    }
}

/// A body that ends with the status, once the call must end and no frame is ready.
pub(super) struct ShutdownBody {
    body: tonic::body::Body,
    signal: Signal,
}

/// Whether the token is waited for. Most bodies never wait, so they never pay for waiting on the token.
enum Signal {
    Unpolled(CancellationToken),
    Polled(Pin<Box<WaitForCancellationFutureOwned>>),
    /// The trailers with the status were sent.
    StatusSent,
}

impl ShutdownBody {
    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Signal::Unpolled(token) = &self.signal {
            self.signal = Signal::Polled(Box::pin(token.clone().cancelled_owned()));
        }
        match &mut self.signal {
            Signal::Polled(cancelled) => cancelled.as_mut().poll(cx),
            Signal::Unpolled(_) | Signal::StatusSent => Poll::Ready(()),
        }
    }
}

impl Body for ShutdownBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if matches!(self.signal, Signal::StatusSent) {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        ready!(self.poll_closing(cx));
        self.signal = Signal::StatusSent;
        // Ends the call's work before the trailers are sent.
        self.body = tonic::body::Body::empty();
        let mut trailers = HeaderMap::new();
        Shutdown::status().add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        match self.signal {
            Signal::StatusSent => true,
            Signal::Unpolled(_) | Signal::Polled(_) => self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
