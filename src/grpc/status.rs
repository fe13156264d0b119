//! The only place that makes a status of a [`RexError`]: the API's error table, row by row, with no wildcard arm.
//!
//! The caller and the log get different messages: the status has the error's own text, and the log also has its
//! causes.

use std::{collections::HashMap, time::Duration};

use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::error::{ERROR_DOMAIN, Missing, Refusal, RexError};

/// Clients advertise 8 KiB of headers, and a status should fit into 6: the message is there twice, once percent-encoded
/// and once, with the details, in base64; names take up to about 1 KiB.
const MAX_MESSAGE_BYTES: usize = 1000;
const MAX_DETAIL_BYTES: usize = 300;

/// The retry delay if the registry sent no `Retry-After`.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);

/// The caller's own deadline has passed.
pub(super) fn deadline_exceeded() -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info("DEADLINE_EXCEEDED", ERROR_DOMAIN, HashMap::new());
    Status::with_error_details(Code::DeadlineExceeded, "the call's deadline has passed", details)
}

impl From<RexError> for Status {
    fn from(error: RexError) -> Self {
        let row = Row::of(&error);
        let mut details = ErrorDetails::new();
        details.set_error_info(row.reason, ERROR_DOMAIN, metadata(&error));
        if let Some(wait) = row.retry {
            details.set_retry_info(Some(wait));
        }
        if let Some((field, problem)) = row.field {
            details.add_bad_request_violation(field, cut(problem, MAX_DETAIL_BYTES));
        }
        if let Some((kind, name)) = row.resource {
            details.set_resource_info(kind, cut(name, MAX_DETAIL_BYTES), "", "");
        }
        let mut headers = MetadataMap::new();
        if let (Code::ResourceExhausted, Some(wait)) = (row.code, row.retry) {
            // gRPC clients with a retry policy wait this long (gRFC A6).
            headers.insert(
                "grpc-retry-pushback-ms",
                MetadataValue::from(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            );
        }
        let message = cut(error.to_string(), MAX_MESSAGE_BYTES);
        Self::with_error_details_and_metadata(row.code, message, details, headers)
    }
}

/// A row of the error table.
struct Row {
    code: Code,
    reason: &'static str,
    retry: Option<Duration>,
    field: Option<(&'static str, String)>,
    resource: Option<(&'static str, String)>,
}

impl Row {
    fn new(code: Code, reason: &'static str) -> Self {
        Self { code, reason, retry: None, field: None, resource: None }
    }

    fn retry(self, after: Option<Duration>) -> Self {
        Self { retry: Some(after.unwrap_or(DEFAULT_RETRY)), ..self }
    }

    fn resource(self, kind: &'static str, name: String) -> Self {
        Self { resource: Some((kind, name)), ..self }
    }

    fn of(error: &RexError) -> Self {
        match error {
            RexError::InvalidArgument { field, problem } => Self {
                field: Some((field, problem.clone())),
                ..Self::new(Code::InvalidArgument, "INVALID_ARGUMENT")
            },
            RexError::CallerUnknown { .. } => Self::new(Code::Unauthenticated, "CALLER_UNKNOWN"),
            RexError::CallerNotAllowed { .. } => Self::new(Code::PermissionDenied, "CALLER_NOT_ALLOWED"),
            RexError::CallerLimited { retry_after, .. } => {
                Self::new(Code::ResourceExhausted, "CALLER_LIMITED").retry(Some(*retry_after))
            }
            RexError::RegistryNotAllowed { .. } => Self::new(Code::PermissionDenied, "REGISTRY_NOT_ALLOWED"),
            RexError::Network { .. } => Self::new(Code::Unavailable, "REGISTRY_UNREACHABLE").retry(None),
            RexError::Timeout { .. } => Self::new(Code::Unavailable, "REGISTRY_TIMEOUT").retry(None),
            RexError::Authentication { at, refusal: Refusal::Unauthenticated, .. } => {
                Self::new(Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED")
                    .resource("registry", at.to_string())
            }
            RexError::Authentication { at, refusal: Refusal::Denied, .. } => {
                Self::new(Code::PermissionDenied, "REGISTRY_DENIED").resource("registry", at.to_string())
            }
            RexError::NotFound { missing: Missing::Repository, name, .. } => {
                Self::new(Code::NotFound, "REPOSITORY_UNKNOWN").resource("repository", name.clone())
            }
            RexError::NotFound { missing: Missing::Manifest, name, .. } => {
                Self::new(Code::NotFound, "MANIFEST_UNKNOWN").resource("manifest", name.clone())
            }
            RexError::NotFound { missing: Missing::Blob, name, .. } => {
                Self::new(Code::NotFound, "BLOB_UNKNOWN").resource("blob", name.clone())
            }
            RexError::RateLimit { retry_after, .. } => {
                Self::new(Code::ResourceExhausted, "REGISTRY_RATE_LIMITED").retry(*retry_after)
            }
            RexError::Server { retry_after, .. } => {
                Self::new(Code::Unavailable, "REGISTRY_UNAVAILABLE").retry(*retry_after)
            }
            RexError::Unsupported { .. } => Self::new(Code::Unimplemented, "UNSUPPORTED_BY_REGISTRY"),
            RexError::Range { .. } => Self {
                field: Some(("offset", "is past the end of the blob".to_owned())),
                ..Self::new(Code::OutOfRange, "OFFSET_OUT_OF_RANGE")
            },
            RexError::Validation { .. } => Self::new(Code::Internal, "REGISTRY_INVALID_RESPONSE"),
            RexError::Integrity { .. } => Self::new(Code::DataLoss, "DIGEST_MISMATCH"),
            RexError::TooLarge { .. } => Self::new(Code::ResourceExhausted, "RESPONSE_TOO_LARGE"),
            RexError::Overloaded { retry_after, .. } => {
                Self::new(Code::Unavailable, "OVERLOADED").retry(Some(*retry_after))
            }
        }
    }
}

/// The metadata of `ErrorInfo`: where the error happened, or which limit the caller has reached.
fn metadata(error: &RexError) -> HashMap<String, String> {
    let at = error.at();
    let limited = if let RexError::CallerLimited { caller, limit, value, .. } = error {
        Some((caller, limit, value))
    } else {
        None
    };
    let entries = [
        ("registry", at.map(|at| at.registry.clone())),
        ("repository", at.and_then(|at| at.repository.clone())),
        ("http_status", at.and_then(|at| at.http_status).map(|status| status.to_string())),
        ("oci_code", at.and_then(|at| at.oci_code.clone())),
        ("caller", limited.map(|(caller, ..)| caller.clone())),
        ("limit", limited.map(|(_, limit, _)| limit.to_string())),
        ("limit_value", limited.map(|(.., value)| value.to_string())),
    ];
    entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// The first `limit` bytes, at a character's boundary.
fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push('…');
    }
    text
}
