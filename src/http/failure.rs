//! Converts a reqwest error to a [`RexError`] without its URL, and decides whether a retry may help.

use std::{error::Error, sync::Arc, time::Duration};

use super::egress::{AddressRefused, LookupError};
use crate::error::{At, RexError, Wait};

/// The text of rustls' error when the peer refused the handshake.
const TLS_ALERT: &str = "received fatal alert";

/// When a call may try again that needed a name lookup while too many were in progress.
const RETRY_AFTER_BUSY: Duration = Duration::from_secs(1);

/// What failed, as one of a few words.
pub(super) fn kind(error: &RexError) -> &'static str {
    match error {
        RexError::Timeout { wait: Wait::Connect, .. } => "connect_timeout",
        RexError::Timeout { wait: Wait::Lookup, .. } => "lookup_timeout",
        RexError::Timeout { .. } => "timeout",
        RexError::Network { .. } => "connection",
        RexError::RegistryNotAllowed { .. } => "address_refused",
        RexError::Overloaded { .. } => "overloaded",
        _ => "_OTHER",
    }
}

/// The error for the caller. `connect` and `idle` are the limits that a timeout may have reached.
pub(super) fn of(error: reqwest::Error, at: At, connect: Duration, idle: Duration) -> RexError {
    // reqwest prints the URL, and a URL may be presigned.
    let error = error.without_url();
    if let Some(refused) = find::<AddressRefused>(&error) {
        return RexError::RegistryNotAllowed { at, problem: refused.to_string() };
    }
    match find::<LookupError>(&error) {
        Some(LookupError::Busy(problem)) => {
            return RexError::Overloaded { problem: problem.clone(), retry_after: RETRY_AFTER_BUSY };
        }
        Some(LookupError::Timeout { limit }) => {
            return RexError::Timeout { at, wait: Wait::Lookup, limit: *limit };
        }
        Some(LookupError::Failed(_)) | None => {}
    }
    if error.is_timeout() {
        let (wait, limit) = if error.is_connect() { (Wait::Connect, connect) } else { (Wait::Body, idle) };
        return RexError::Timeout { at, wait, limit };
    }
    let detail = innermost(&error);
    let problem = if is_tls(&error) {
        format!("TLS failed: {detail}")
    } else if error.is_connect() {
        format!("cannot connect: {detail}")
    } else {
        format!("the connection broke: {detail}")
    };
    RexError::Network { at, problem, cause: Some(Arc::new(error)) }
}

/// Whether a retry may help. It may after a connection failed or broke before a response, but not after a TLS failure.
pub(super) fn is_transient(error: &RexError) -> bool {
    match error {
        RexError::Network { cause, .. } => cause.as_ref().is_none_or(|cause| !is_tls(cause.as_ref())),
        RexError::Timeout { wait, .. } => matches!(wait, Wait::Lookup | Wait::Connect),
        RexError::Server { at, .. } => at.http_status.is_some_and(is_transient_status),
        RexError::InvalidArgument { .. }
        | RexError::CallerUnknown { .. }
        | RexError::CallerNotAllowed { .. }
        | RexError::CallerLimited { .. }
        | RexError::RegistryNotAllowed { .. }
        | RexError::Authentication { .. }
        | RexError::NotFound { .. }
        | RexError::RateLimit { .. }
        | RexError::Unsupported { .. }
        | RexError::Range { .. }
        | RexError::Validation { .. }
        | RexError::Integrity { .. }
        | RexError::TooLarge { .. }
        | RexError::Overloaded { .. } => false,
    }
}

/// The statuses that mean a temporary failure, often of a server behind the registry.
pub(super) fn is_transient_status(status: u16) -> bool {
    matches!(status, 500 | 502 | 503 | 504)
}

/// The message of the root cause.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Whether TLS failed. With TLS 1.3 the peer's alert may arrive after the handshake has ended on this side, and h2 keeps only
/// the text of such an error.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    find::<rustls::Error>(error).is_some() || innermost(error).starts_with(TLS_ALERT)
}

/// Finds a cause of type `T`, also inside an `io::Error`, whose `source` skips the error that it wraps.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|inner| find::<T>(inner)) {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
