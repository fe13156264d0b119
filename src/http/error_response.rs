//! An error response: its status, its OCI error code, and the [`RexError`] that it becomes.

use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;

use super::response::Response;
use crate::error::{At, Missing, Refusal, RexError};

/// The head of an error response, and the parsed parts of its body. The body itself is dropped.
#[derive(Debug)]
pub(crate) struct ErrorResponse {
    pub(crate) at: At,
    headers: HeaderMap,
    retry_after: Option<Duration>,
    says_expired: bool,
}

impl ErrorResponse {
    /// Reads the body of an error response, under the limit for such bodies.
    pub(crate) async fn read(response: Response) -> Self {
        let (mut at, retry_after) = (response.at(), response.retry_after());
        let headers = response.headers().clone();
        let limit = response.error_bytes();
        let body = response.read("error body", limit).await.unwrap_or_default();
        at.oci_code = oci_code(&body);
        Self { at, headers, retry_after, says_expired: says_expired(&body) }
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Whether the body says that the token has expired. ECR then responds with 403 instead of 401.
    pub(crate) fn says_expired(&self) -> bool {
        self.says_expired
    }

    pub(crate) fn status(&self) -> u16 {
        self.at.http_status.unwrap_or_default()
    }

    /// The error for the caller. A 404 without an OCI code means that `missing` of this `name` was not found.
    pub(crate) fn into_error(self, missing: Missing, name: &str) -> RexError {
        let Self { at, retry_after, .. } = self;
        let authentication = |at, refusal, problem: &str| RexError::Authentication {
            at,
            refusal,
            problem: problem.to_owned(),
        };
        match at.http_status.unwrap_or_default() {
            401 => authentication(at, Refusal::Unauthenticated, "the registry does not accept this sign-in"),
            // GHCR and others respond with 403 for repositories that do not exist.
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

/// The error body of the OCI Distribution Specification, "Error Codes". `oci-spec`'s type does not fit: it
/// accepts only the specification's own codes, and only text as `detail`.
#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    code: String,
    message: Option<String>,
}

/// The first code of an error body. Callers see this code, so it must have the form that the specification gives codes:
/// upper-case letters and underscores.
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
