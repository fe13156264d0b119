//! What all requests of one call have in common.

use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    error::{At, RexError},
    memory::MemoryAccount,
};

/// How much of the time that is left is kept for the status of a call that gave up waiting: a tenth, at most this.
const MAX_STATUS_MARGIN: Duration = Duration::from_millis(250);

/// The most requests that one call sends: to the registry, to storage that it redirects to, to token services, retries included.
/// The most expensive honest call takes fewer: five manifests of nested indexes, with a redirect and a retry each, are 20
/// requests, and a sign-in adds 3. Redirects, challenges and retries have bounds of their own, but multiply to hundreds.
const MAX_REQUESTS: u32 = 32;

/// On whose behalf a call is made. Calls with the same share wait in the same queue, and each share has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share(u64);

impl Share {
    /// The share of this name, address, or whatever tells those who share the service apart.
    #[must_use]
    pub fn of(whose: impl Hash) -> Self {
        // A number, so that no call has to allocate one. Names come from the operator, who gains nothing from a collision.
        let mut hasher = DefaultHasher::new();
        whose.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// What all requests of one call have in common: its deadline, on whose behalf it is made, what memory it may use, and how
/// many there may be.
#[derive(Debug)]
pub struct CallContext {
    deadline: Option<Instant>,
    share: Share,
    memory: MemoryAccount,
    sent: AtomicU32,
}

impl CallContext {
    /// The context of a call that its caller waits for until `deadline`. What is read for it is reserved from `memory`.
    #[must_use]
    pub fn new(deadline: Option<Instant>, share: Share, memory: MemoryAccount) -> Self {
        Self { deadline, share, memory, sent: AtomicU32::new(0) }
    }

    /// The caller's deadline. No wait begins that would pass it.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn share(&self) -> Share {
        self.share
    }

    pub(super) fn memory(&self) -> &MemoryAccount {
        &self.memory
    }

    /// Counts a request that is about to be sent. It is an error when the call has sent as many as it may.
    pub(super) fn count_request(&self, at: &At) -> Result<(), RexError> {
        if self.sent.fetch_add(1, Relaxed) < MAX_REQUESTS {
            return Ok(());
        }
        let problem = format!("the registry caused more than {MAX_REQUESTS} requests for one call");
        Err(RexError::Validation { at: at.clone(), problem })
    }

    /// Starts the count again, for a call that has made progress.
    pub(crate) fn reset_request_count(&self) {
        self.sent.store(0, Relaxed);
    }

    /// When to give up a wait of at most `limit`: early enough for the status to arrive before the caller's deadline.
    pub(super) fn end_of_wait(&self, limit: Duration) -> Instant {
        let now = Instant::now();
        let left = self.deadline.map_or(limit, |deadline| {
            let left = deadline.saturating_duration_since(now);
            limit.min(left - (left / 10).min(MAX_STATUS_MARGIN))
        });
        now + left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{MemoryBudget, MemoryLimits};

    fn context(deadline: Option<Instant>) -> CallContext {
        let limits = MemoryLimits { total: 1, per_peer: 1, per_caller: 1 };
        CallContext::new(deadline, Share::of(""), MemoryBudget::new(limits).account())
    }

    #[test]
    fn a_call_sends_a_bounded_number_of_requests() {
        let (call, at) = (context(None), At::default());
        for _ in 0..2 {
            assert!((0..MAX_REQUESTS).all(|_| call.count_request(&at).is_ok()));
            assert!(matches!(call.count_request(&at), Err(RexError::Validation { .. })));
            assert!(call.count_request(&at).is_err());
            call.reset_request_count();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_before_the_deadline_and_after_its_limit() {
        let end = |deadline: Option<u64>| {
            let deadline = deadline.map(|millis| Instant::now() + Duration::from_millis(millis));
            let end = context(deadline).end_of_wait(Duration::from_secs(30));
            (end - Instant::now()).as_millis()
        };
        assert_eq!(end(None), 30_000);
        assert_eq!(end(Some(60_000)), 30_000);
        assert_eq!(end(Some(5_000)), 4_750);
        assert_eq!(end(Some(100)), 90);
        assert_eq!(end(Some(0)), 0);
    }
}
