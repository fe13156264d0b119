//! What the operations have in common: a GET, and the checks of its response.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
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

/// The outcome of a conditional request.
#[derive(Debug, Clone)]
pub enum Conditional<T> {
    /// 304: what the caller has is still right.
    NotModified,
    /// The response, and its entity tag.
    Modified(T, Option<ETag>),
}

/// The entity tag of a response (RFC 9110 section 8.8.3), to ask later whether it has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ETag(HeaderValue);

impl ETag {
    /// Longer ones are not kept: registries send a digest in quotes.
    pub const MAX_BYTES: usize = 256;

    /// Its bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it has at least its quotes")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The tag as text; `None` if it has other than visible ASCII characters.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.0.to_str().ok()
    }

    /// A tag that was kept as text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        (text.len() <= Self::MAX_BYTES).then(|| HeaderValue::from_str(text).ok().map(Self)).flatten()
    }

    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::ETAG)?;
        (value.len() <= Self::MAX_BYTES).then(|| Self(value.clone()))
    }

    pub(super) fn if_none_match(&self) -> (HeaderName, HeaderValue) {
        (header::IF_NONE_MATCH, self.0.clone())
    }
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
