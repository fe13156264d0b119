//! The retry budget of one server, and the pause that its 429 requests. All requests to the server share them.
//!
//! Without a limit over all calls, retries make an outage worse. So each request deposits a part of a retry into the budget,
//! and each retry withdraws a whole one. The budget starts full, so that the first calls of a quiet service can retry.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::fleet::SharedPauses;
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
    /// The name of the registry, and the pauses that other replicas know of.
    shared: Option<(String, Arc<dyn SharedPauses>)>,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { balance: Mutex::new(BALANCE_LIMIT), paused_until: Mutex::new(None), shared: None }
    }

    /// The same, with pauses that are shared with other replicas.
    pub(super) fn with_shared_pauses(self, registry: String, pauses: Arc<dyn SharedPauses>) -> Self {
        Self { shared: Some((registry, pauses)), ..self }
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
        let wait = wait.min(MAX_PAUSE);
        if let Some((registry, pauses)) = &self.shared {
            pauses.announce(registry, wait);
        }
        let until = Instant::now() + wait;
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

    /// The end of the pause that this replica was asked for, or another one, whichever is later.
    fn paused_until(&self, now: Instant) -> Option<Instant> {
        let own = *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        let others = self.shared.as_ref().and_then(|(registry, pauses)| pauses.paused_until(registry));
        own.max(others).filter(|until| *until > now)
    }
}

fn rate_limited(at: &At, retry_after: Duration) -> RexError {
    RexError::RateLimit { at: At { http_status: Some(429), ..at.clone() }, retry_after: Some(retry_after) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

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

    /// The pauses that other replicas know of.
    #[derive(Debug, Default)]
    struct Others {
        announced: Mutex<Vec<(String, Duration)>>,
        until: Mutex<Option<Instant>>,
    }

    impl SharedPauses for Others {
        fn announce(&self, registry: &str, wait: Duration) {
            self.announced.lock().unwrap().push((registry.to_owned(), wait));
        }

        fn paused_until(&self, registry: &str) -> Option<Instant> {
            (registry == "a.test").then(|| *self.until.lock().unwrap()).flatten()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_announced_and_one_of_another_replica_is_kept() {
        let others = Arc::new(Others::default());
        let pace = |registry: &str| {
            Pace::new().with_shared_pauses(registry.to_owned(), Arc::clone(&others) as Arc<dyn SharedPauses>)
        };
        pace("b.test").pause(Duration::from_secs(7));
        assert_eq!(*others.announced.lock().unwrap(), [("b.test".to_owned(), Duration::from_secs(7))]);

        let now = Instant::now();
        *others.until.lock().unwrap() = Some(now + Duration::from_secs(10));
        let (paused, free) = (pace("a.test"), pace("b.test"));
        assert!(free.wait(&At::default(), None).await.is_ok());
        assert_eq!(now.elapsed(), Duration::ZERO);
        assert!(paused.wait(&At::default(), Some(now + Duration::from_secs(9))).await.is_err());
        assert!(paused.wait(&At::default(), None).await.is_ok());
        assert_eq!(now.elapsed().as_secs(), 10);
        // A shorter pause of its own does not end the one of the others.
        *others.until.lock().unwrap() = Some(now + Duration::from_secs(20));
        paused.pause(Duration::from_secs(1));
        assert!(paused.wait(&At::default(), None).await.is_ok());
        assert_eq!(now.elapsed().as_secs(), 20);
    }
}
