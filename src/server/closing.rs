//! The end of calls that outlive the server or their connection: each gets a status, rather than a reset.

use std::{
    collections::HashMap,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of the service's `google.rpc.ErrorInfo`.
const ERROR_DOMAIN: &str = "rexd.registry.v1";

/// Another replica can be asked at once; a single one is back after a moment.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A request extension: cancelled when the call must end now, because the drain's or the connection's grace is over.
/// Less than half a second later the connection is closed.
///
/// A handler need not look at it: a call without an answer, and a stream which waits for its next message, end as
/// UNAVAILABLE by themselves. A stream that always has a message ready should, for it is never interrupted in the midst
/// of one.
#[derive(Clone, Debug)]
pub struct Closing(pub CancellationToken);

impl Closing {
    /// What a call that is ended by it is told: the callers' retry rules know this code, and go to another replica.
    pub fn status() -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info("SHUTTING_DOWN", ERROR_DOMAIN, HashMap::new());
        details.set_retry_info(Some(RETRY_AFTER));
        Status::with_error_details(Code::Unavailable, "server is shutting down", details)
    }

    /// The answer, or the status when the call must end first.
    pub(super) async fn bound<E>(
        self,
        answer: impl Future<Output = Result<Response<tonic::body::Body>, E>>,
    ) -> Result<Response<Bounded>, E> {
        let response = match self.0.run_until_cancelled(answer).await {
            Some(response) => response?,
            None => Self::status().into_http(),
        };
        Ok(response.map(|body| Bounded { body, closing: Waiting::NotYet(self.0) }))
    }
}

/// A response's body that ends with the status once it must end and has nothing ready.
pub(super) struct Bounded {
    body: tonic::body::Body,
    closing: Waiting,
}

/// Most answers are ready at once and never wait; only those that do pay for waiting on the token as well.
enum Waiting {
    NotYet(CancellationToken),
    Since(Pin<Box<WaitForCancellationFutureOwned>>),
    /// The status has been given.
    Over,
}

impl Bounded {
    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Waiting::NotYet(token) = &self.closing {
            self.closing = Waiting::Since(Box::pin(token.clone().cancelled_owned()));
        }
        match &mut self.closing {
            Waiting::Since(cancelled) => cancelled.as_mut().poll(cx),
            Waiting::NotYet(_) | Waiting::Over => Poll::Ready(()),
        }
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if matches!(self.closing, Waiting::Over) {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        ready!(self.poll_closing(cx));
        self.closing = Waiting::Over;
        // Nothing of the call goes on while the trailers are on their way.
        self.body = tonic::body::Body::empty();
        let mut trailers = HeaderMap::new();
        Closing::status().add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        match self.closing {
            Waiting::Over => true,
            Waiting::NotYet(_) | Waiting::Since(_) => self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
