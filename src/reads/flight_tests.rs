#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures_util::{future::join_all, poll};
use tokio::time::sleep;

use super::*;
use crate::{
    client::Share,
    memory::{MemoryBudget, MemoryLimits},
};

const FRESH: Join = Join::Since(Duration::ZERO);

/// A registry whose state changes with each read, and whose reads take a second.
#[derive(Default)]
struct Registry {
    flights: Flights<&'static str, usize>,
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Registry {
    async fn read(&self, join: Join) -> Outcome<usize> {
        self.read_for(&call(None), join, Ok).await.0
    }

    async fn read_for(
        &self,
        call: &CallContext,
        join: Join,
        response: fn(usize) -> Outcome<usize>,
    ) -> (Outcome<usize>, bool) {
        let read = |_| {
            let (begun, ended) = (Arc::clone(&self.begun), Arc::clone(&self.ended));
            async move {
                let number = begun.fetch_add(1, SeqCst) + 1;
                sleep(Duration::from_secs(1)).await;
                ended.fetch_add(1, SeqCst);
                response(number)
            }
            .boxed()
        };
        self.flights.join(&"tag", join, call, || None, read).await
    }

    fn counts(&self) -> (usize, usize) {
        (self.begun.load(SeqCst), self.ended.load(SeqCst))
    }
}

fn call(seconds: Option<u64>) -> CallContext {
    let limits = MemoryLimits { total: 1, per_peer: 1, per_caller: 1 };
    let deadline = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    CallContext::new(deadline, Share::of(""), MemoryBudget::new(limits).account())
}

#[tokio::test(start_paused = true)]
async fn calls_for_what_never_changes_share_one_read() {
    let registry = Registry::default();
    let read = || async {
        let first = registry.read(Join::Any).await.unwrap();
        (first, registry.read(Join::Any).await.unwrap())
    };
    let both = join_all((0..200).map(|_| read())).await;
    assert!(both.iter().all(|both| *both == (1, 2)), "{both:?}");
    assert_eq!(registry.counts(), (2, 2));
    assert!(registry.flights.0.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn calls_for_the_present_state_gather_for_the_next_read() {
    let registry = Registry::default();
    let later = |millis| {
        let registry = &registry;
        async move {
            sleep(Duration::from_millis(millis)).await;
            registry.read(FRESH).await.unwrap()
        }
    };
    let numbers = join_all((0..200).map(|call| later(call * 4))).await;
    assert_eq!(numbers.iter().filter(|number| **number == 1).count(), 1);
    assert!(numbers.iter().skip(1).all(|number| *number == 2), "{numbers:?}");
    assert_eq!(registry.counts(), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_joins_a_read_that_is_no_older_than_it_allows() {
    let registry = Registry::default();
    let later = |millis, age| {
        let registry = &registry;
        async move {
            sleep(Duration::from_millis(millis)).await;
            registry.read(Join::Since(Duration::from_millis(age))).await.unwrap()
        }
    };
    let numbers = tokio::join!(later(0, 0), later(500, 500), later(501, 500));
    assert_eq!(numbers, (1, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_read_ends_when_the_last_of_its_calls_leaves() {
    let registry = Registry::default();
    let mut first = Box::pin(registry.read(Join::Any));
    let mut second = Box::pin(registry.read(Join::Any));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    drop(first);
    assert!(poll!(&mut second).is_pending());
    drop(second);
    assert!(registry.flights.0.lock().is_empty());
    sleep(Duration::from_secs(5)).await;
    assert_eq!(registry.counts(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_one_who_began_a_read_may_leave() {
    let registry = Registry::default();
    let mut first = Box::pin(registry.read(Join::Any));
    let mut second = Box::pin(registry.read(Join::Any));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    drop(first);
    assert_eq!(second.await.unwrap(), 1);
    assert_eq!(registry.counts(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_next_read_begins_when_the_current_one_is_abandoned_or_takes_too_long() {
    let registry = Registry::default();
    let mut first = Box::pin(registry.read(FRESH));
    let mut second = Box::pin(registry.read(FRESH));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    assert_eq!(registry.counts(), (1, 0));
    drop(first);
    assert!(poll!(&mut second).is_pending());
    assert_eq!(registry.counts(), (2, 0));
    drop(second);

    let hangs = |_| std::future::pending().boxed();
    let endless = call(None);
    let mut hanging = Box::pin(registry.flights.join(&"tag", FRESH, &endless, || None, hangs));
    assert!(poll!(&mut hanging).is_pending());
    let began = Instant::now();
    assert_eq!(registry.read(FRESH).await.unwrap(), 3);
    assert_eq!(began.elapsed(), PATIENCE + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_given_to_those_who_wait_and_is_not_remembered() {
    let registry = Registry::default();
    let fails = |_| Err(RexError::Unsupported { at: crate::error::At::default(), problem: "no".to_owned() });
    let (one, other) = (call(None), call(None));
    let (first, second) =
        tokio::join!(registry.read_for(&one, Join::Any, fails), registry.read_for(&other, Join::Any, fails));
    assert!(first.0.is_err() && second.0.is_err());
    assert_eq!(registry.counts(), (1, 1));
    assert_eq!(registry.read(Join::Any).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_the_call_that_began_the_read_does_not_fail_the_others() {
    let registry = Registry::default();
    let overloaded = |number| match number {
        1 => Err(RexError::Overloaded { problem: "memory".to_owned(), retry_after: Duration::from_secs(1) }),
        number => Ok(number),
    };
    let (one, other) = (call(None), call(None));
    let (first, second) = tokio::join!(
        registry.read_for(&one, Join::Any, overloaded),
        registry.read_for(&other, Join::Any, overloaded)
    );
    assert!(matches!(first, (Err(RexError::Overloaded { .. }), false)));
    assert!(matches!(second, (Ok(2), false)));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_told_before_its_deadline_why_the_read_of_others_waits() {
    let registry = Registry::default();
    let hangs = |_: Arc<CallContext>| std::future::pending().boxed();
    let (patient, hasty) = (call(None), call(Some(1)));
    let mut first = Box::pin(registry.flights.join(&"tag", Join::Any, &patient, || None, hangs));
    assert!(poll!(&mut first).is_pending());
    let paused = || {
        let at = crate::error::At::default();
        Some(RexError::RateLimit { at, retry_after: None })
    };
    let began = Instant::now();
    let (outcome, joined) = registry.flights.join(&"tag", Join::Any, &hasty, paused, hangs).await;
    assert!(matches!(outcome, Err(RexError::RateLimit { .. })) && joined);
    assert_eq!(began.elapsed(), Duration::from_millis(900));
}
