//! A registry's response: its head, and ways to read its body under limits.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, StatusCode, header};

use super::{body::Body, permits::Permit, retry_after};
use crate::{
    error::{At, RexError, Wait},
    memory::{MemoryAccount, bytes_with_permit},
};

/// The bytes that are reserved for each byte of a body that is read whole. The buffer grows by doubling, so it may have twice the
/// size of the body. The parsed document takes about the same again: a descriptor of an index has 200 bytes of JSON and a
/// third more in memory, a tag of 8 bytes takes 40.
const RESERVED_PER_BYTE: usize = 4;

/// The head of a response. Its body has not been read yet.
#[derive(Debug)]
pub(crate) struct Response {
    response: reqwest::Response,
    at: At,
    elapsed: Duration,
    limits: Limits,
    memory: MemoryAccount,
    /// The request counts as in flight until its body is read or dropped.
    permit: Option<Permit>,
    at_registry: bool,
}

/// The limits on a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) idle: Duration,
    pub(super) whole: Duration,
    pub(super) error_bytes: usize,
}

impl Response {
    pub(super) fn new(
        response: reqwest::Response,
        at: At,
        elapsed: Duration,
        limits: Limits,
        memory: MemoryAccount,
    ) -> Self {
        Self { response, at, elapsed, limits, memory, permit: None, at_registry: true }
    }

    /// Marks a response that was received after a redirect to another origin. Such a response must not decide where the
    /// registry's credentials are sent, so its challenge is removed.
    pub(super) fn marked_as_foreign(mut self) -> Self {
        self.response.headers_mut().remove(header::WWW_AUTHENTICATE);
        Self { at_registry: false, ..self }
    }

    pub(super) fn with_permit(self, permit: Option<Permit>) -> Self {
        Self { permit, ..self }
    }

    /// Whether every hop was at the registry's own origin, so that the response is the registry's.
    pub(super) fn is_from_registry(&self) -> bool {
        self.at_registry
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The value of a header, if there is one and it is visible ASCII. Of several values, the first.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The `Content-Type`, in lower case, without parameters.
    pub(crate) fn content_type(&self) -> Option<String> {
        let value = self.header(header::CONTENT_TYPE)?;
        let essence = value.split(';').next().unwrap_or_default().trim();
        Some(essence.to_ascii_lowercase()).filter(|essence| !essence.is_empty())
    }

    /// The time from the request to the head of the response.
    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Registry, repository and status, for errors.
    pub(crate) fn at(&self) -> At {
        At { http_status: Some(self.status().as_u16()), ..self.at.clone() }
    }

    /// A [`Validation`](RexError::Validation) error about this response.
    pub(crate) fn invalid(&self, problem: impl Into<String>) -> RexError {
        RexError::Validation { at: self.at(), problem: problem.into() }
    }

    /// The time that `Retry-After` requests.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        retry_after::parse(self.header(header::RETRY_AFTER)?, SystemTime::now())
    }

    /// The most bytes of an error body.
    pub(super) fn error_bytes(&self) -> usize {
        self.limits.error_bytes
    }

    /// The body as a stream. An encoded body is refused: the request asked for `identity`, and digests are of plain bytes.
    pub(crate) fn into_body(self) -> Result<Body, RexError> {
        let encoding = self.header(header::CONTENT_ENCODING).unwrap_or("identity");
        if !encoding.eq_ignore_ascii_case("identity") {
            return Err(
                self.invalid("the body has a Content-Encoding, although the request asked for identity")
            );
        }
        let at = self.at();
        Ok(Body::new(self.response, at, self.limits.connect, self.limits.idle, self.permit))
    }

    /// The whole body; its memory stays reserved until the last reference to it is dropped. More than `limit` bytes is an error, and so is a body that takes longer than the registry's
    /// `body_timeout`: the idle limit alone would let a registry send one byte now and then for hours.
    pub(crate) async fn read(self, what: &'static str, limit: usize) -> Result<Bytes, RexError> {
        let (at, whole) = (self.at(), self.limits.whole);
        let too_slow = RexError::Timeout { at, wait: Wait::WholeBody, limit: whole };
        tokio::time::timeout(whole, self.read_untimed(what, limit)).await.map_err(|_| too_slow)?
    }

    async fn read_untimed(self, what: &'static str, limit: usize) -> Result<Bytes, RexError> {
        let at = self.at();
        let too_large = || RexError::TooLarge { at: at.clone(), what, limit };
        if self.response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut memory = self.memory.reserve(0)?;
        let mut body = self.into_body()?;
        // The declared length comes from outside, so no memory is allocated from it.
        let mut content = BytesMut::new();
        while let Some(chunk) = body.next().await? {
            if content.len() + chunk.len() > limit {
                return Err(too_large());
            }
            memory.grow(chunk.len() * RESERVED_PER_BYTE)?;
            content.extend_from_slice(&chunk);
        }
        Ok(bytes_with_permit(content.freeze(), memory))
    }
}
