//! The caller's own limits: admits a call, and keeps its permit until its response has been sent.
//!
//! A handler admits the call once it knows that the caller may make it. The permit of a stream moves into the stream. That
//! of any other call moves into the response, as an extension, and [`keep_permit`] moves it into the body.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::{Request, Response, Status, body::Body};

use crate::{
    callers::{CallKind, CallerLimiter, CallerPermit},
    error::RexError,
};

/// The permit of a call; none for a caller without limits.
#[derive(Debug)]
pub(super) struct CallPermit(Option<CallerPermit>);

/// Admits a call. The limiter of its caller is an extension of the request, where [`super::IdentifyCaller`] has put it.
pub(super) fn admit(request: &Request<impl Sized>, kind: CallKind) -> Result<CallPermit, RexError> {
    let limiter = request.extensions().get::<Arc<CallerLimiter>>();
    limiter.map(|limiter| limiter.admit(kind)).transpose().map(CallPermit)
}

impl CallPermit {
    /// The response with the permit.
    pub(super) fn attach<T>(self, mut response: Response<T>) -> Response<T> {
        if let Some(permit) = self.0 {
            response.extensions_mut().insert(Arc::new(permit));
        }
        response
    }

    /// The size of a stream's chunks, at most `bytes`.
    pub(super) fn chunk_bytes(&self, bytes: usize) -> usize {
        self.0.as_ref().map_or(bytes, |permit| permit.chunk_bytes(bytes))
    }

    /// Waits until the caller may be sent this many bytes of a blob. Cancel safe.
    pub(super) async fn pace(&self, bytes: usize) {
        if let Some(permit) = &self.0 {
            permit.pace(bytes).await;
        }
    }
}

/// Moves the permit from the response's extensions into its body, which returns it when HTTP/2 has the last byte.
pub(super) fn keep_permit(mut response: http::Response<Body>) -> http::Response<Body> {
    match response.extensions_mut().remove::<Arc<CallerPermit>>() {
        None => response,
        Some(permit) => response.map(|body| Body::new(BodyWithPermit { body, permit: Some(permit) })),
    }
}

struct BodyWithPermit {
    body: Body,
    permit: Option<Arc<CallerPermit>>,
}

impl http_body::Body for BodyWithPermit {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if !frame.as_ref().is_some_and(|frame| frame.as_ref().is_ok_and(Frame::is_data)) {
            // The caller may make its next call as soon as it has the trailers, so the permit is returned before they are sent.
            self.permit = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::num::NonZeroU64;

    use http_body::Body as _;

    use super::*;
    use crate::{
        callers::Identified,
        policy::{Caller, CallerLimits},
    };

    /// A body of two frames: data, then trailers.
    struct DataAndTrailers(Vec<Frame<Bytes>>);

    impl http_body::Body for DataAndTrailers {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop().map(Ok))
        }
    }

    #[tokio::test]
    async fn the_permit_of_a_response_is_returned_before_its_trailers_are_sent() {
        let limits = CallerLimits { max_calls: NonZeroU64::new(1), ..CallerLimits::default() };
        let caller = Identified::from(Caller::new("build", Vec::new()).with_limits(limits));
        let mut request = Request::new(());
        request.extensions_mut().insert(caller.limiter.unwrap());
        let is_admitted = || admit(&request, CallKind::Unary).is_ok();

        let permit = admit(&request, CallKind::Unary).unwrap();
        let frames = vec![Frame::trailers(http::HeaderMap::new()), Frame::data(Bytes::from_static(b"x"))];
        let response = permit.attach(Response::new(())).map(|()| Body::new(DataAndTrailers(frames)));
        let (metadata, body, extensions) = response.into_parts();
        let mut response = http::Response::new(body);
        (*response.headers_mut(), *response.extensions_mut()) = (metadata.into_headers(), extensions);
        let mut body = keep_permit(response).into_body();
        let mut next = async || std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;

        assert!(!is_admitted());
        assert!(next().await.unwrap().unwrap().is_data());
        assert!(!is_admitted());
        assert!(next().await.unwrap().unwrap().is_trailers());
        assert!(is_admitted());
        drop(body);
    }
}
