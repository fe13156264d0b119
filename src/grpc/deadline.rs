//! The caller's deadline: `grpc-timeout` of the gRPC protocol ("PROTOCOL-HTTP2", Timeout). It bounds the whole call, for a
//! stream its body included, and is passed on so that no wait begins that would outlast it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tonic::{Response, Status, metadata::MetadataMap};

use super::status;
use crate::error::RexError;

/// Longer timeouts are cut to this, so that adding them to a time does not overflow.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A stream that is polled at its deadline ends with a status; one that is not polled is reset this much later.
const STATUS_GRACE: Duration = Duration::from_millis(20);

/// When the caller stops waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// Reads a call's deadline. A value that breaks the protocol's grammar is ignored.
    pub(super) fn from_metadata(metadata: &MetadataMap) -> Self {
        let timeout = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse);
        Self(timeout.map(|timeout| Instant::now() + timeout.min(MAX_TIMEOUT)))
    }

    pub(super) fn instant(self) -> Option<Instant> {
        self.0
    }

    /// Waits until a moment after the deadline.
    pub(super) async fn passed(self) {
        match self.0 {
            Some(deadline) => sleep_until(deadline + STATUS_GRACE).await,
            None => std::future::pending().await,
        }
    }

    /// Runs a call up to the deadline.
    ///
    /// The call is boxed: it has the state of all layers below, about 6 KiB, and each future that takes it by value would
    /// hold it twice, once as its argument and once while it waits.
    pub(super) fn run<T>(
        self,
        call: impl Future<Output = Result<Response<T>, RexError>> + Send,
    ) -> impl Future<Output = Result<Response<T>, Status>> + Send
    where
        T: Send,
    {
        let call = Box::pin(call);
        async move {
            let outcome = match self.0 {
                Some(deadline) => {
                    tokio::time::timeout_at(deadline, call).await.map_err(|_| status::deadline_exceeded())?
                }
                None => call.await,
            };
            // The causes are for the log; the status that follows holds none of them.
            Ok(outcome.inspect_err(|error| tracing::debug!(?error, "the call failed"))?)
        }
    }
}

/// At most eight digits and a unit.
fn parse(value: &str) -> Option<Duration> {
    let unit = value.chars().last()?;
    let digits = value.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(count * 60 * 60),
        'M' => Duration::from_secs(count * 60),
        'S' => Duration::from_secs(count),
        'm' => Duration::from_millis(count),
        'u' => Duration::from_micros(count),
        'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_follow_the_protocols_grammar() {
        assert_eq!(parse("10S"), Some(Duration::from_secs(10)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse("5m"), Some(Duration::from_millis(5)));
        assert_eq!(parse("0n"), Some(Duration::ZERO));
        for wrong in ["", "S", "10", "10x", "123456789S", "-1S", "1.5S", "10 S", "10µ"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
