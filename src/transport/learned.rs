//! What a registry asks for, as it said last: so that the next call answers the challenge before it is given.
//!
//! Nothing here is for ever. That a registry asks for nothing is believed for a minute, and a challenge that cannot be met
//! is forgotten after as long: a registry may close, or move its token service, while we run.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::challenge::Challenge;
use crate::error::RexError;

/// How long an answer is believed that no longer fits, and so how often at most a registry is asked again.
const BELIEVED: Duration = Duration::from_secs(60);

type Outcome = Result<Option<Challenge>, RexError>;

/// The last word of a registry on signing in.
#[derive(Debug, Default)]
pub(super) struct Learned {
    last: Mutex<Option<(Outcome, Instant)>>,
    asking: tokio::sync::Mutex<()>,
}

impl Learned {
    /// The challenge to meet, if one is known.
    pub(super) fn challenge(&self) -> Option<Challenge> {
        match &*self.last.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((Ok(challenge), _)) => challenge.clone(),
            Some((Err(_), _)) | None => None,
        }
    }

    /// Whether the registry said lately what it asks for, be it nothing.
    pub(super) fn is_recent(&self) -> bool {
        match &*self.last.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((Ok(_), at)) => at.elapsed() < BELIEVED,
            Some((Err(_), _)) | None => false,
        }
    }

    /// Notes a challenge that came unasked.
    pub(super) fn note(&self, challenge: Challenge) {
        self.set(Ok(Some(challenge)));
    }

    /// Forgets a challenge that could not be met, unless it is fresh: then there is nothing newer to be had.
    pub(super) fn doubt(&self, challenge: &Challenge) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((Ok(Some(known)), at)) = &*last
            && known == challenge
            && at.elapsed() >= BELIEVED
        {
            *last = None;
        }
    }

    /// Asks, one at a time. Who waited while another asked gets what that one got, a failure too: behind a registry that
    /// hangs, nobody waits for more than one answer.
    pub(super) async fn ask(&self, ask: impl Future<Output = Outcome>) -> Outcome {
        let began = Instant::now();
        let _one_at_a_time = self.asking.lock().await;
        if let Some((outcome, at)) = &*self.last.lock().unwrap_or_else(PoisonError::into_inner)
            && (*at >= began || matches!(outcome, Ok(Some(_))))
        {
            return outcome.clone();
        }
        let outcome = ask.await;
        self.set(outcome.clone());
        outcome
    }

    fn set(&self, outcome: Outcome) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((outcome, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_an_answer_gets_it_also_when_it_is_a_failure() {
        let (learned, asked) = (Learned::default(), AtomicU32::new(0));
        let hang = || async {
            asked.fetch_add(1, SeqCst);
            tokio::time::sleep(Duration::from_secs(30)).await;
            Err(RexError::invalid("registry", "hangs"))
        };
        let began = Instant::now();
        let outcomes = tokio::join!(learned.ask(hang()), learned.ask(hang()), learned.ask(hang()));
        assert!(outcomes.0.is_err() && outcomes.1.is_err() && outcomes.2.is_err());
        assert_eq!(asked.load(SeqCst), 1);
        assert!(began.elapsed() < Duration::from_secs(31));
        assert!(!learned.is_recent(), "a failure tells nothing about signing in");
    }

    #[tokio::test(start_paused = true)]
    async fn that_nothing_is_asked_for_is_believed_for_a_minute() {
        let learned = Learned::default();
        assert_eq!(learned.ask(async { Ok(None) }).await.unwrap(), None);
        assert!(learned.is_recent());
        tokio::time::advance(BELIEVED).await;
        assert!(!learned.is_recent());
        let asked = learned.ask(async { Ok(Some(Challenge::Basic)) }).await;
        assert_eq!(asked.unwrap(), Some(Challenge::Basic));
    }

    #[tokio::test(start_paused = true)]
    async fn a_challenge_that_cannot_be_met_is_forgotten_after_a_minute() {
        let learned = Learned::default();
        learned.note(Challenge::Basic);
        learned.doubt(&Challenge::Basic);
        assert_eq!(learned.challenge(), Some(Challenge::Basic));
        tokio::time::advance(BELIEVED).await;
        learned.doubt(&Challenge::Basic);
        assert_eq!(learned.challenge(), None);
    }
}
