//! The challenge that a registry gave last, for each kind of scope, so that the next request can meet it in advance.
//!
//! Kinds are kept apart because some registries challenge them differently: Harbor wants Basic for its catalog and tokens
//! for everything else. A kind without a challenge of its own uses the one of `/v2/`.
//!
//! No outcome is kept forever. If a registry requires no authentication, the cache keeps that for a minute. A challenge that
//! cannot be met is also forgotten after a minute. A registry may begin to require authentication, or move its token
//! service, while the service runs.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{challenge::Challenge, scope::Scope};
use crate::error::RexError;

/// How long an outcome is valid. A registry gets at most one request for its challenge in this time.
const VALID_FOR: Duration = Duration::from_secs(60);

type Outcome = Result<Option<Challenge>, RexError>;

/// The challenges of one registry.
#[derive(Debug, Default)]
pub(super) struct ChallengeCache {
    /// The last outcome of `/v2/`, and its time.
    root: Mutex<Option<(Outcome, Instant)>>,
    pull: Mutex<Option<(Challenge, Instant)>>,
    catalog: Mutex<Option<(Challenge, Instant)>>,
    asking: tokio::sync::Mutex<()>,
}

impl ChallengeCache {
    /// The challenge to meet for a scope, if one is known.
    pub(super) fn challenge(&self, scope: &Scope) -> Option<Challenge> {
        let own =
            self.own(scope).and_then(|slot| lock(slot).as_ref().map(|(challenge, _)| challenge.clone()));
        own.or_else(|| match &*lock(&self.root) {
            Some((Ok(challenge), _)) => challenge.clone(),
            Some((Err(_), _)) | None => None,
        })
    }

    /// Whether `/v2/` responded less than a minute ago, with a challenge or without one.
    pub(super) fn is_recent(&self) -> bool {
        match &*lock(&self.root) {
            Some((Ok(_), at)) => at.elapsed() < VALID_FOR,
            Some((Err(_), _)) | None => false,
        }
    }

    /// Stores a challenge that came with the response to a request for a scope.
    pub(super) fn store(&self, scope: &Scope, challenge: Challenge) {
        match self.own(scope) {
            Some(slot) => *lock(slot) = Some((challenge, Instant::now())),
            None => self.store_root(Ok(Some(challenge))),
        }
    }

    /// Forgets a challenge that could not be met, unless it is recent, because then the registry would send the same one again.
    pub(super) fn forget_if_old(&self, scope: &Scope, challenge: &Challenge) {
        let is_old = |known: &Challenge, at: &Instant| known == challenge && at.elapsed() >= VALID_FOR;
        if let Some(slot) = self.own(scope) {
            lock(slot).take_if(|(known, at)| is_old(known, at));
        }
        lock(&self.root).take_if(|(outcome, at)| matches!(outcome, Ok(Some(known)) if is_old(known, at)));
    }

    /// Requests `/v2/`, one request at a time. A caller that waits for another caller's request gets the same outcome, even
    /// a failure. So if a registry hangs, no caller waits for more than one response.
    pub(super) async fn ask(&self, ask: impl Future<Output = Outcome>) -> Outcome {
        let began = Instant::now();
        let _one_at_a_time = self.asking.lock().await;
        if let Some((outcome, at)) = &*lock(&self.root)
            && (*at >= began || matches!(outcome, Ok(Some(_))))
        {
            return outcome.clone();
        }
        let outcome = ask.await;
        self.store_root(outcome.clone());
        outcome
    }

    fn store_root(&self, outcome: Outcome) {
        *lock(&self.root) = Some((outcome, Instant::now()));
    }

    /// The slot for a kind of scope. `None` for ping, which uses the challenge of `/v2/`.
    fn own(&self, scope: &Scope) -> Option<&Mutex<Option<(Challenge, Instant)>>> {
        match scope {
            Scope::Ping => None,
            Scope::Pull(_) => Some(&self.pull),
            Scope::Catalog => Some(&self.catalog),
        }
    }
}

fn lock<T>(slot: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn callers_that_wait_share_one_outcome_even_a_failure() {
        let (cache, requests) = (ChallengeCache::default(), AtomicU32::new(0));
        let hang = || async {
            requests.fetch_add(1, SeqCst);
            tokio::time::sleep(Duration::from_secs(30)).await;
            Err(RexError::invalid("registry", "hangs"))
        };
        let began = Instant::now();
        let outcomes = tokio::join!(cache.ask(hang()), cache.ask(hang()), cache.ask(hang()));
        assert!(outcomes.0.is_err() && outcomes.1.is_err() && outcomes.2.is_err());
        assert_eq!(requests.load(SeqCst), 1);
        assert!(began.elapsed() < Duration::from_secs(31));
        assert!(!cache.is_recent(), "a failure says nothing about challenges");
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_without_a_challenge_is_valid_for_a_minute() {
        let cache = ChallengeCache::default();
        assert_eq!(cache.ask(async { Ok(None) }).await.unwrap(), None);
        assert!(cache.is_recent());
        tokio::time::advance(VALID_FOR).await;
        assert!(!cache.is_recent());
        let outcome = cache.ask(async { Ok(Some(Challenge::Basic)) }).await;
        assert_eq!(outcome.unwrap(), Some(Challenge::Basic));
    }

    #[tokio::test(start_paused = true)]
    async fn a_challenge_that_cannot_be_met_is_forgotten_after_a_minute() {
        for scope in [Scope::Ping, Scope::Catalog] {
            let cache = ChallengeCache::default();
            cache.store(&scope, Challenge::Basic);
            cache.forget_if_old(&scope, &Challenge::Basic);
            assert_eq!(cache.challenge(&scope), Some(Challenge::Basic));
            tokio::time::advance(VALID_FOR).await;
            cache.forget_if_old(&scope, &Challenge::Basic);
            assert_eq!(cache.challenge(&scope), None);
        }
    }

    #[tokio::test]
    async fn a_challenge_of_the_catalog_is_not_used_for_other_scopes() {
        let (cache, pull) = (ChallengeCache::default(), Scope::Pull("org/app".parse().unwrap()));
        cache.store(&Scope::Catalog, Challenge::Basic);
        assert_eq!(cache.challenge(&Scope::Catalog), Some(Challenge::Basic));
        assert_eq!(cache.challenge(&pull), None);
        assert_eq!(cache.challenge(&Scope::Ping), None);
    }
}
