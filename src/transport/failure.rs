//! Failures on the way: what a reqwest error was, without any URL, and whether it is worth another try.

use std::{error::Error, sync::Arc, time::Duration};

use super::egress::AddressRefused;
use crate::error::{At, RexError, Wait};

/// How rustls says that the peer refused the handshake.
const TLS_ALERT: &str = "received fatal alert";

/// What failed, as an error; `limits` are connect and idle.
pub(super) fn of(error: reqwest::Error, at: At, connect: Duration, idle: Duration) -> RexError {
    // reqwest prints the URL, and a URL may be presigned.
    let error = error.without_url();
    if let Some(refused) = find::<AddressRefused>(&error) {
        return RexError::RegistryNotAllowed { at, problem: refused.to_string() };
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

/// Whether another try may help: connections that failed, or broke before an answer. TLS failures do not heal.
pub(super) fn is_transient(error: &RexError) -> bool {
    match error {
        RexError::Network { cause, .. } => cause.as_ref().is_none_or(|cause| !is_tls(cause.as_ref())),
        RexError::Timeout { wait, .. } => *wait == Wait::Connect,
        RexError::Server { at, .. } => at.http_status.is_some_and(is_transient_status),
        RexError::InvalidArgument { .. }
        | RexError::CallerUnknown { .. }
        | RexError::CallerNotAllowed { .. }
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

/// Statuses that a registry gives while something behind it is away.
pub(super) fn is_transient_status(status: u16) -> bool {
    matches!(status, 500 | 502 | 503 | 504)
}

/// The message of the cause at the root, which says what really happened.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// The peer's alert may come when TLS 1.3 is set up on our side already; h2 keeps of such an error nothing but its text.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    find::<rustls::Error>(error).is_some() || innermost(error).starts_with(TLS_ALERT)
}

/// Looks for a cause of a type, also inside `io::Error`, which hides what it wraps from `source`.
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
