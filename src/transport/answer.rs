//! A registry's answer: its head, and its body under limits.

use std::{
    pin::Pin,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::Deserialize;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};

use super::{challenge::AuthScheme, failure, retry};
use crate::error::{At, Missing, Refusal, RexError, Wait};

/// The head of an answer; the body is still on its way.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(super) response: reqwest::Response,
    pub(super) at: At,
    pub(super) scheme: AuthScheme,
    pub(super) elapsed: Duration,
    pub(super) limits: Limits,
    /// The request counts against the registry's limit until its body is read or dropped.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    /// It came at the end of redirects that left the registry's origin, so it does not speak for the registry.
    pub(super) foreign: bool,
}

/// What a body may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) idle: Duration,
    pub(super) error_bytes: usize,
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header's value, where it is there once and readable.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The `Content-Type`, lower case, without parameters.
    pub(crate) fn content_type(&self) -> Option<String> {
        let value = self.header(header::CONTENT_TYPE)?;
        let essence = value.split(';').next().unwrap_or_default().trim();
        Some(essence.to_ascii_lowercase()).filter(|essence| !essence.is_empty())
    }

    /// What the registry asked for before it answered.
    pub(crate) fn scheme(&self) -> AuthScheme {
        self.scheme
    }

    /// How long the exchange took, until the head was there.
    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Where this happened, its status included.
    pub(crate) fn at(&self) -> At {
        At { http_status: Some(self.status().as_u16()), ..self.at.clone() }
    }

    /// A [`Validation`](RexError::Validation) error about this answer.
    pub(crate) fn invalid(&self, problem: impl Into<String>) -> RexError {
        RexError::Validation { at: self.at(), problem: problem.into() }
    }

    /// What `Retry-After` says.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        retry::retry_after(self.header(header::RETRY_AFTER)?, SystemTime::now())
    }

    /// The body as a stream. An encoded body is refused: `identity` was asked for, and digests are of plain bytes.
    pub(crate) fn into_body(self) -> Result<Body, RexError> {
        let encoding = self.header(header::CONTENT_ENCODING).unwrap_or("identity");
        if !encoding.eq_ignore_ascii_case("identity") {
            return Err(self.invalid("the body has a Content-Encoding, though identity was asked for"));
        }
        let at = self.at();
        let idle = Box::pin(tokio::time::sleep(self.limits.idle));
        Ok(Body { response: self.response, at, limits: self.limits, idle, _permit: self.permit })
    }

    /// The whole body; more than `limit` bytes is an error, never a cut.
    pub(crate) async fn read(self, what: &'static str, limit: usize) -> Result<Bytes, RexError> {
        let at = self.at();
        let too_large = || RexError::TooLarge { at: at.clone(), what, limit };
        if self.response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut body = self.into_body()?;
        // Nothing is allocated from the declared length: it came from outside.
        let mut content = BytesMut::new();
        while let Some(chunk) = body.next().await? {
            if content.len() + chunk.len() > limit {
                return Err(too_large());
            }
            content.extend_from_slice(&chunk);
        }
        Ok(content.freeze())
    }

    /// Reads what came instead of success: the registry's error code, where the body is an OCI error.
    pub(crate) async fn rejection(self) -> Rejection {
        let (mut at, retry_after) = (self.at(), self.retry_after());
        let headers = self.headers().clone();
        let limit = self.limits.error_bytes;
        let body = self.read("error body", limit).await.unwrap_or_default();
        at.oci_code = oci_code(&body);
        Rejection { at, headers, retry_after, says_expired: says_expired(&body) }
    }
}

/// The head of a rejection and its code; what its body said besides stays here.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub(crate) at: At,
    pub(super) headers: HeaderMap,
    retry_after: Option<Duration>,
    /// ECR answers 403 to a token that is merely old.
    pub(super) says_expired: bool,
}

impl Rejection {
    pub(crate) fn status(&self) -> u16 {
        self.at.http_status.unwrap_or_default()
    }

    /// The error this rejection is. `missing` and `name` say what a 404 without a code means.
    pub(crate) fn into_error(self, missing: Missing, name: &str) -> RexError {
        let Self { at, retry_after, .. } = self;
        let authentication = |at, refusal, problem: &str| RexError::Authentication {
            at,
            refusal,
            problem: problem.to_owned(),
        };
        match at.http_status.unwrap_or_default() {
            401 => authentication(at, Refusal::Unauthenticated, "the registry does not accept this sign-in"),
            // GHCR and others answer so for repositories that do not exist.
            403 => authentication(at, Refusal::Denied, "not found, or access denied"),
            404 => {
                let missing = match at.oci_code.as_deref().unwrap_or_default() {
                    "NAME_UNKNOWN" | "NAME_INVALID" => Missing::Repository,
                    "MANIFEST_UNKNOWN" | "MANIFEST_BLOB_UNKNOWN" => Missing::Manifest,
                    "BLOB_UNKNOWN" => Missing::Blob,
                    _ => missing,
                };
                let repository = at.repository.clone().unwrap_or_default();
                let name = if missing == Missing::Repository { repository } else { name.to_owned() };
                RexError::NotFound { at, missing, name }
            }
            405 | 501 => {
                RexError::Unsupported { at, problem: "the registry does not offer this operation".to_owned() }
            }
            429 => RexError::RateLimit { at, retry_after },
            500..=599 => RexError::Server { at, retry_after },
            status => RexError::Validation { at, problem: format!("unexpected status {status}") },
        }
    }
}

/// The error body of the OCI Distribution Specification, "Error Codes". Not `oci-spec`'s type, which takes no codes but
/// the specification's own and no other type of `detail` than text.
#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    code: String,
    message: Option<String>,
}

/// The first code of an error body. Codes are shown to callers, so they are taken only in the form the specification gives
/// them; anything else, HTML for example, has none.
fn oci_code(body: &[u8]) -> Option<String> {
    let body: ErrorBody = serde_json::from_slice(body).ok()?;
    let code = body.errors.into_iter().next()?.code;
    let plausible = code.len() <= 64 && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    plausible.then_some(code)
}

fn says_expired(body: &[u8]) -> bool {
    let Ok(body) = serde_json::from_slice::<ErrorBody>(body) else {
        return false;
    };
    let messages = body.errors.into_iter().filter_map(|entry| entry.message);
    messages.map(|message| message.to_ascii_lowercase()).any(|message| message.contains("token has expired"))
}

/// A body on its way.
#[derive(Debug)]
pub(crate) struct Body {
    response: reqwest::Response,
    at: At,
    limits: Limits,
    idle: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Body {
    /// The next bytes; `None` at the end. No bytes within the idle limit is an error.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RexError> {
        // The limit is for the registry: time that the caller took between two reads does not count.
        self.idle.as_mut().reset(Instant::now() + self.limits.idle);
        tokio::select! {
            biased;
            chunk = self.response.chunk() => {
                chunk.map_err(|error| failure::of(error, self.at.clone(), self.limits.connect, self.limits.idle))
            }
            () = &mut self.idle => {
                Err(RexError::Timeout { at: self.at.clone(), wait: Wait::Body, limit: self.limits.idle })
            }
        }
    }
}
