//! When to ask again: backoff, the retry budget, and the registry's own word (`Retry-After`, RFC 9110 section 10.2.3).
//!
//! Retries multiply an outage unless something bounds them over all calls: each call deposits a part of a retry into
//! the registry's budget, each retry withdraws a whole one. A small balance at the start lets the first calls of a quiet
//! service retry at all.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rand::RngExt as _;
use tokio::time::Instant;

/// Tries of one request, the first included.
pub(super) const MAX_TRIES: u32 = 3;

/// The first backoff is drawn from 0 to this, the next from twice as much.
const BASE_BACKOFF: Duration = Duration::from_millis(100);

/// Hundredths of a retry. In an outage that begins with a full balance, n calls make at most n × 1.18 + 2 requests: at
/// 100 calls and more that is no more than 1.2 a call.
const DEPOSIT: u32 = 18;
const WITHDRAWAL: u32 = 100;
const BALANCE_LIMIT: u32 = 200;

/// The longest that a call without a deadline waits for a registry that said `Retry-After`.
pub(super) const MAX_PATIENCE: Duration = Duration::from_secs(30);

/// A later date than this is not a wait but a refusal; also keeps arithmetic far from overflow.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What all calls to one registry share about asking again.
#[derive(Debug)]
pub(super) struct Pace {
    balance: Mutex<u32>,
    paused_until: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { balance: Mutex::new(BALANCE_LIMIT), paused_until: Mutex::new(None) }
    }

    /// Counts a call, which earns a part of a retry.
    pub(super) fn deposit(&self) {
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        *balance = balance.saturating_add(DEPOSIT).min(BALANCE_LIMIT);
    }

    /// Takes a retry out of the budget, if it has one.
    pub(super) fn withdraw(&self) -> bool {
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        let left = balance.checked_sub(WITHDRAWAL);
        if let Some(left) = left {
            *balance = left;
        }
        left.is_some()
    }

    /// Notes that the registry wants to be left alone for `wait`.
    pub(super) fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait.min(MAX_RETRY_AFTER);
        let mut paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = Some(paused.map_or(until, |earlier| earlier.max(until)));
    }

    /// Waits until the registry may be asked. When the deadline, or our patience, ends before, the remaining time is the
    /// error, at once.
    pub(super) async fn wait(&self, deadline: Option<Instant>) -> Result<(), Duration> {
        loop {
            let now = Instant::now();
            let until = match *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(until) if until > now => until,
                _ => return Ok(()),
            };
            if until >= deadline.unwrap_or(now + MAX_PATIENCE) {
                return Err(until - now);
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// How long to wait before try number `tries + 1`: full jitter, so that callers who failed together do not come back
/// together (AWS Architecture Blog, "Exponential Backoff And Jitter").
pub(super) fn backoff(tries: u32) -> Duration {
    let ceiling = BASE_BACKOFF.saturating_mul(1 << tries.saturating_sub(1).min(6));
    rand::rng().random_range(Duration::ZERO..=ceiling)
}

/// Reads `Retry-After`: seconds, or a date. Anything else is as if it were not there.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    // A date is 29 characters, the obsolete forms are at most 33.
    if value.len() > 40 {
        return None;
    }
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 holds is still "very long".
        value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_or_nothing() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let seconds = |text| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0), "a date that has passed");
        assert_eq!(seconds("99999999999999999999999"), Some(86_400));
        for nonsense in ["", "soon", "-1", "1.5", "1e9", &"1".repeat(41)] {
            assert_eq!(seconds(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn an_outage_is_not_multiplied() {
        let pace = Pace::new();
        let requests: u32 = (0..1000)
            .map(|_| {
                pace.deposit();
                1 + (1..MAX_TRIES).map_while(|_| pace.withdraw().then_some(1)).sum::<u32>()
            })
            .sum();
        assert!((1100..=1200).contains(&requests), "{requests} requests for 1000 calls");
    }

    #[test]
    fn backoff_is_bounded() {
        for tries in 1..100 {
            assert!(backoff(tries) <= Duration::from_millis(6400));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_registry_is_waited_for_only_when_the_deadline_allows() {
        let pace = Pace::new();
        pace.pause(Duration::from_secs(10));
        let soon = Instant::now() + Duration::from_secs(5);
        assert!(pace.wait(Some(soon)).await.is_err_and(|left| left > Duration::from_secs(9)));
        let before = Instant::now();
        let late = Instant::now() + Duration::from_secs(20);
        assert_eq!(pace.wait(Some(late)).await, Ok(()));
        assert!(before.elapsed() >= Duration::from_secs(10));
    }

    proptest::proptest! {
        #[test]
        fn no_retry_after_is_longer_than_a_day(text in "[0-9]{0,30}|.{0,50}|[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT") {
            proptest::prop_assert!(retry_after(&text, SystemTime::UNIX_EPOCH).is_none_or(|wait| wait <= MAX_RETRY_AFTER));
        }
    }
}
