//! What all requests of one call have in common.

use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    time::Duration,
};

use tokio::time::Instant;

/// How much of the time that is left is kept for the status of a call that gave up waiting: a tenth, at most this.
const MAX_STATUS_MARGIN: Duration = Duration::from_millis(250);

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

/// What all requests of one call have in common: its deadline, and on whose behalf it is made.
#[derive(Debug)]
pub struct CallContext {
    deadline: Option<Instant>,
    share: Share,
}

impl CallContext {
    /// The context of a call that its caller waits for until `deadline`.
    #[must_use]
    pub fn new(deadline: Option<Instant>, share: Share) -> Self {
        Self { deadline, share }
    }

    /// The caller's deadline. No wait begins that would pass it.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn share(&self) -> Share {
        self.share
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

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_before_the_deadline_and_after_its_limit() {
        let end = |deadline: Option<u64>| {
            let deadline = deadline.map(|millis| Instant::now() + Duration::from_millis(millis));
            let end = CallContext::new(deadline, Share::of("")).end_of_wait(Duration::from_secs(30));
            (end - Instant::now()).as_millis()
        };
        assert_eq!(end(None), 30_000);
        assert_eq!(end(Some(60_000)), 30_000);
        assert_eq!(end(Some(5_000)), 4_750);
        assert_eq!(end(Some(100)), 90);
        assert_eq!(end(Some(0)), 0);
    }
}
