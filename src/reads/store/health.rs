//! Whether the store works: after a failure it counts as absent for a while, so that a store that hangs does not delay
//! every call.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The last outcome of one kind of access.
#[derive(Debug)]
pub(super) struct Health {
    /// What fails, for the log.
    what: &'static str,
    away: Mutex<Option<Away>>,
}

#[derive(Debug, Clone, Copy)]
struct Away {
    until: Instant,
    pause: Duration,
}

impl Health {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, away: Mutex::new(None) }
    }

    /// Whether to try. While the store fails, one call after each pause tries; the pauses grow to 30 seconds.
    pub(super) fn admits(&self) -> bool {
        let mut away = self.away();
        let Some(now_away) = away.as_mut() else { return true };
        let now = Instant::now();
        if now < now_away.until {
            return false;
        }
        now_away.pause = (now_away.pause * 2).min(LONGEST_PAUSE);
        now_away.until = now + now_away.pause;
        true
    }

    /// An access worked.
    pub(super) fn works(&self) {
        if self.away().take().is_some() {
            tracing::info!("{} works again", self.what);
        }
    }

    /// An access failed. Logged when it worked before.
    pub(super) fn fails(&self, problem: &str) {
        let mut away = self.away();
        let pause = away.as_ref().map_or(FIRST_PAUSE, |away| away.pause);
        let first = away.replace(Away { until: Instant::now() + pause, pause }).is_none();
        drop(away);
        if first {
            tracing::warn!(problem, "{} fails; calls are served without it", self.what);
        } else {
            tracing::debug!(problem, "{} still fails", self.what);
        }
    }

    fn away(&self) -> MutexGuard<'_, Option<Away>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_call_tries_after_each_pause() {
        let health = Health::new("the store");
        assert!(health.admits() && health.admits());
        health.fails("gone");
        assert!(!health.admits());
        tokio::time::advance(FIRST_PAUSE).await;
        assert_eq!([health.admits(), health.admits()], [true, false]);
        health.works();
        assert!(health.admits() && health.admits());
    }

    #[tokio::test(start_paused = true)]
    async fn the_pauses_grow_to_a_limit() {
        let health = Health::new("the store");
        health.fails("gone");
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let from = Instant::now();
            while !health.admits() {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            health.fails("gone");
            pauses.push(from.elapsed().as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn many_failures_at_once_are_one() {
        let health = Health::new("the store");
        (0..100).for_each(|_| health.fails("gone"));
        tokio::time::advance(FIRST_PAUSE).await;
        assert!(health.admits());
    }
}
