//! What the operations have in common: a GET, and the checks of its response.

use http::{HeaderMap, Method};
use url::Url;

use crate::{
    error::{At, Missing, RexError},
    http::{Bound, CallContext, ErrorResponse, Protocol, Request, Response},
    oci::DocumentKind,
};

/// A GET of the API.
pub(super) fn get(url: Url, headers: HeaderMap, at: At, call: &CallContext) -> Request<'_> {
    let (protocol, bound, shared) = (Protocol::Any, Bound::Requests, false);
    Request { method: Method::GET, url, headers, protocol, bound, shared, call, at }
}

/// Whether the response is a web page, such as a login form or a proxy's error. Some come with status 200.
pub(super) fn is_html(response: &Response) -> bool {
    response.content_type().is_some_and(|media_type| media_type == "text/html")
}

/// Passes a success on, and makes an error of any other status.
pub(super) async fn expect_success(
    response: Response,
    missing: Missing,
    name: &str,
) -> Result<Response, RexError> {
    if response.status().is_success() {
        return Ok(response);
    }
    Err(ErrorResponse::read(response).await.into_error(missing, name))
}

/// A content type as an error message names it. Unknown ones are not repeated: they are text that the registry chose.
pub(super) fn named(content_type: Option<&str>) -> &str {
    match content_type {
        None => "no content type",
        Some(
            known @ ("text/html"
            | "text/plain"
            | "text/xml"
            | "application/json"
            | "application/problem+json"
            | "application/xml"
            | "application/octet-stream"),
        ) => known,
        Some(manifest) if DocumentKind::of(manifest) != DocumentKind::Other => manifest,
        Some(_) => "an unknown content type",
    }
}
