//! The check of `content-type` before a request is routed (gRPC over HTTP/2, "Requests": "If Content-Type does not begin
//! with "application/grpc", gRPC servers SHOULD respond with HTTP status of 415"). Without it, other HTTP/2 clients take
//! the error of a gRPC response, whose HTTP status is 200, for success.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use tonic::{Status, body::Body};

const GRPC: &[u8] = b"application/grpc";

/// Whether the request is gRPC: `application/grpc`, alone or followed by `+` or `;`, as grpc-go and grpc-java read it.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let Some((start, rest)) = value.and_then(|value| value.split_at_checked(GRPC.len())) else {
        return false;
    };
    start.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';'))
}

/// The response to any other request: 415, with the accepted type (RFC 9110, section 15.5.16).
pub(super) fn unsupported() -> Response<Body> {
    let text = Full::new(Bytes::from_static(b"the content-type must be application/grpc\n"));
    let mut response = Response::new(Body::new(text.map_err(|never| -> Status { match never {} })));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/grpc"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}
