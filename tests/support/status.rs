//! What a caller reads from a status that is not OK. Every status that a test reads here must also keep two guarantees:
//! the domain of its `ErrorInfo`, and its size on the wire.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

const DOMAIN: &str = "rexd.registry.v1";

/// Clients advertise 8 KiB for all headers of a response; a status leaves room for others.
const MAX_STATUS_BYTES: usize = 6 * 1024;

/// The parts of a status.
#[derive(Debug)]
pub struct Failure {
    pub status: Status,
    pub reason: String,
    /// The metadata of `ErrorInfo`.
    pub metadata: HashMap<String, String>,
    pub details: ErrorDetails,
}

impl Failure {
    /// Reads a status of the service's own.
    pub fn of(status: Status) -> Self {
        let size = size_on_the_wire(&status);
        assert!(size < MAX_STATUS_BYTES, "a status of {size} bytes: {status:?}");
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
        assert_eq!(info.domain, DOMAIN, "{status:?}");
        Self { reason: info.reason.clone(), metadata: info.metadata.clone(), details, status }
    }

    /// Reads a status that must be this one.
    pub fn expect(status: Status, code: Code, reason: &str, context: &str) -> Self {
        let failure = Self::of(status);
        assert_eq!(
            (failure.status.code(), failure.reason.as_str()),
            (code, reason),
            "{context}: {:?}",
            failure.status
        );
        failure
    }

    /// The fields that `BadRequest` names.
    pub fn fields(&self) -> Vec<&str> {
        let violations = self.details.bad_request().map(|bad| bad.field_violations.as_slice());
        violations.unwrap_or_default().iter().map(|violation| violation.field.as_str()).collect()
    }

    /// The delay in `RetryInfo`, in milliseconds.
    pub fn retry_ms(&self) -> Option<u128> {
        let delay = self.details.retry_info()?.retry_delay?;
        Some(delay.as_millis())
    }

    /// Whether a text is in anything that the caller gets.
    pub fn leaks(&self, canary: &str) -> bool {
        let details = String::from_utf8_lossy(self.status.details());
        let metadata = format!("{:?}", self.status.metadata());
        [self.status.message(), &details, &metadata].iter().any(|text| text.contains(canary))
    }
}

/// As HTTP/2 counts a list of headers (RFC 9113 section 6.5.2): names, values, and 32 bytes for each.
fn size_on_the_wire(status: &Status) -> usize {
    let mut headers = http::HeaderMap::new();
    status.add_header(&mut headers).unwrap();
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}
