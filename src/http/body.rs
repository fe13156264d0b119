//! The body of a response, as a stream under the idle limit and, for a blob, a least rate.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use super::{failure, permits::Permit};
use crate::{
    error::{At, RexError, Wait},
    metrics::Received,
};

/// The least rate of a blob in bytes a second, on average over the idle limit. The idle limit alone would let a registry send
/// one byte now and then, and hold a stream and its caller for ever. No link that anybody uses is slower: a modem of 1994
/// brings three times as much.
pub(crate) const LEAST_RATE: u64 = 1024;

/// A body that is being received.
#[derive(Debug)]
pub(crate) struct Body {
    response: reqwest::Response,
    at: At,
    connect_limit: Duration,
    idle_limit: Duration,
    idle: Pin<Box<Sleep>>,
    least_rate: Option<RateWindow>,
    received: Received,
    _permit: Option<Permit>,
}

/// Time spent waiting for the registry, and what it brought.
#[derive(Debug, Default)]
struct RateWindow {
    waited: Duration,
    bytes: u64,
}

impl RateWindow {
    /// Counts bytes that were waited for. `false` if a whole window, of length `window`, brought too few.
    fn count(&mut self, waited: Duration, bytes: usize, window: Duration) -> bool {
        self.waited += waited;
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.waited < window {
            return true;
        }
        let seconds = std::mem::take(&mut self.waited).as_secs_f64();
        std::mem::take(&mut self.bytes) as f64 >= seconds * LEAST_RATE as f64
    }
}

impl Body {
    pub(super) fn new(
        response: reqwest::Response,
        at: At,
        connect_limit: Duration,
        idle_limit: Duration,
        permit: Option<Permit>,
    ) -> Self {
        let idle = Box::pin(tokio::time::sleep(idle_limit));
        let received = Received::new(&at.registry);
        Self { response, at, connect_limit, idle_limit, idle, least_rate: None, received, _permit: permit }
    }

    /// The same body under the least rate, for a response that no other limit ends.
    pub(crate) fn with_least_rate(self) -> Self {
        Self { least_rate: Some(RateWindow::default()), ..self }
    }

    /// The next bytes; `None` at the end. It is an error when none arrive within the idle limit, and when a blob comes more
    /// slowly than the least rate.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RexError> {
        // The limits are the registry's: the time that the caller takes between two reads does not count.
        let began = Instant::now();
        self.idle.as_mut().reset(began + self.idle_limit);
        let chunk = tokio::select! {
            biased;
            chunk = self.response.chunk() => chunk
                .map_err(|error| failure::of(error, self.at.clone(), self.connect_limit, self.idle_limit))?,
            () = &mut self.idle => return Err(self.timeout(Wait::Body)),
        };
        let (waited, window) = (began.elapsed(), self.idle_limit);
        let bytes = chunk.as_ref().map(Bytes::len);
        self.received.add(bytes.unwrap_or_default());
        let is_slow = bytes
            .zip(self.least_rate.as_mut())
            .is_some_and(|(bytes, rate)| !rate.count(waited, bytes, window));
        if is_slow { Err(self.timeout(Wait::LeastRate)) } else { Ok(chunk) }
    }

    fn timeout(&self, wait: Wait) -> RexError {
        RexError::Timeout { at: self.at.clone(), wait, limit: self.idle_limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_window_of_waiting_brings_its_bytes_or_fails() {
        let mut rate = RateWindow::default();
        let (second, window) = (Duration::from_secs(1), Duration::from_secs(10));
        // A window at exactly the rate, one that is quiet before its bytes come, and one that starts with them.
        assert!((0..10).all(|_| rate.count(second, 1024, window)));
        assert!((0..9).all(|_| rate.count(second, 0, window)) && rate.count(second, 10_240, window));
        assert!(rate.count(second, 10_240, window) && (0..9).all(|_| rate.count(second, 0, window)));
        // What one window brought too much does not help the next one, in which a byte is missing.
        assert!(rate.count(window, 1 << 30, window));
        assert!((0..9).all(|_| rate.count(second, 1024, window)) && !rate.count(second, 1023, window));
        // Bytes that are there at once cost no waiting.
        assert!((0..1000).all(|_| rate.count(Duration::ZERO, 1, window)));
    }
}
