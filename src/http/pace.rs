//! The retry budget of one server, and the pause that its 429 requests. All requests to the server share them.
//!
//! Without a limit over all calls, retries make an outage worse. So each request deposits a part of a retry into the budget,
//! and each retry withdraws a whole one. The budget starts full, so that the first calls of a quiet service can retry.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::error::{At, RexError};

/// Hundredths of a retry. In an outage that begins with a full balance, n calls make at most n × 1.18 + 2 requests: at
/// 100 calls and more that is no more than 1.2 a call.
const DEPOSIT: u32 = 18;
const WITHDRAWAL: u32 = 100;
const BALANCE_LIMIT: u32 = 200;

/// The longest that a call without a deadline waits for the end of a pause.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(30);

/// The longest pause, so that adding it to a time never overflows.
const MAX_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// The retry budget and the pause of one server.
#[derive(Debug)]
pub(crate) struct Pace {
    balance: Mutex<u32>,
    paused_until: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { balance: Mutex::new(BALANCE_LIMIT), paused_until: Mutex::new(None) }
    }

    /// Counts a request, which earns a part of a retry.
    pub(super) fn deposit(&self) {
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        *balance = balance.saturating_add(DEPOSIT).min(BALANCE_LIMIT);
    }

    /// Withdraws a retry from the budget. Returns whether the budget had one.
    pub(super) fn withdraw(&self) -> bool {
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        let left = balance.checked_sub(WITHDRAWAL);
        if let Some(left) = left {
            *balance = left;
        }
        left.is_some()
    }

    /// Pauses all requests for `wait`.
    pub(super) fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait.min(MAX_PAUSE);
        let mut paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = Some(paused.map_or(until, |earlier| earlier.max(until)));
    }

    /// Waits for the end of a pause. When the deadline, or the longest wait, ends before the pause does, it is a
    /// [`RateLimit`](RexError::RateLimit) error at once.
    pub(crate) async fn wait(&self, at: &At, deadline: Option<Instant>) -> Result<(), RexError> {
        loop {
            let now = Instant::now();
            let Some(until) = self.paused_until(now) else { return Ok(()) };
            if until >= deadline.unwrap_or(now + MAX_WAIT) {
                return Err(rate_limited(at, until - now));
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// The error of a call whose time ends during a pause; `None` if there is no pause.
    pub(super) fn refusal(&self, at: &At) -> Option<RexError> {
        let now = Instant::now();
        self.paused_until(now).map(|until| rate_limited(at, until - now))
    }

    fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.lock().unwrap_or_else(PoisonError::into_inner).filter(|until| *until > now)
    }
}

fn rate_limited(at: &At, retry_after: Duration) -> RexError {
    RexError::RateLimit { at: At { http_status: Some(429), ..at.clone() }, retry_after: Some(retry_after) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_bounds_the_requests_of_an_outage() {
        let pace = Pace::new();
        let requests: u32 = (0..1000)
            .map(|_| {
                pace.deposit();
                1 + (1..3).map_while(|_| pace.withdraw().then_some(1)).sum::<u32>()
            })
            .sum();
        assert!((1100..=1200).contains(&requests), "{requests} requests for 1000 calls");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_a_pause_only_when_its_deadline_allows() {
        let pace = Pace::new();
        pace.pause(Duration::from_secs(10));
        let soon = Instant::now() + Duration::from_secs(5);
        let refused = pace.wait(&At::default(), Some(soon)).await;
        assert!(
            matches!(refused, Err(RexError::RateLimit { retry_after: Some(left), .. }) if left > Duration::from_secs(9))
        );
        let before = Instant::now();
        let late = Instant::now() + Duration::from_secs(20);
        assert!(pace.wait(&At::default(), Some(late)).await.is_ok());
        assert!(before.elapsed() >= Duration::from_secs(10));
    }
}
