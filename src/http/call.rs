//! What all requests of one call have in common.
//!
//! Several calls may wait for one read of a registry. Then the read has a context of its own, which each of them
//! [joins](CallContext::join): the read waits as long as the most patient of them, and in the queues of all of them.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    permits::{Permit, Permits},
    share::Share,
};
use crate::{
    error::{At, RexError},
    memory::{MemoryAccount, Reservation},
};

/// How much of the time that is left is kept for the status of a call that gave up waiting: a tenth, at most this.
const MAX_STATUS_MARGIN: Duration = Duration::from_millis(250);

/// The most requests that one call sends: to the registry, to storage that it redirects to, to token services, retries included.
/// The most expensive honest call takes fewer: five manifests of nested indexes, with a redirect and a retry each, are 20
/// requests, and a sign-in adds 3. Redirects, challenges and retries have bounds of their own, but multiply to hundreds.
const MAX_REQUESTS: u32 = 32;

/// What all requests of one call have in common: its deadline, on whose behalf it is made, what memory it may use, and how
/// many there may be.
#[derive(Debug)]
pub struct CallContext {
    share: Share,
    waiting: Mutex<Waiting>,
    /// Notified when a call joins.
    joined: Notify,
    memory: MemoryAccount,
    sent: AtomicU32,
    requests: RequestCount,
}

/// The number of requests that were sent for a call, those of the reads that it began included. Its clones are the same number.
#[derive(Debug, Clone, Default)]
pub struct RequestCount(Arc<AtomicU32>);

impl RequestCount {
    /// The number so far.
    #[must_use]
    pub fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

/// The calls that wait.
#[derive(Debug)]
struct Waiting {
    /// The latest deadline of them all; `None` if one of them has none.
    deadline: Option<Instant>,
    /// On whose behalf the others are made, each once.
    other_shares: Vec<Share>,
    /// The refusal, if the time of a call ran out now: set while its request waits for a permit.
    queued: Option<RexError>,
}

impl CallContext {
    /// The context of a call that its caller waits for until `deadline`. What is read for it is reserved from `memory`.
    #[must_use]
    pub fn new(deadline: Option<Instant>, share: Share, memory: MemoryAccount) -> Self {
        let waiting = Waiting { deadline, other_shares: Vec::new(), queued: None };
        Self {
            share,
            waiting: Mutex::new(waiting),
            joined: Notify::new(),
            memory,
            sent: AtomicU32::new(0),
            requests: RequestCount::default(),
        }
    }

    /// The context of a read that this call begins and that others may join. The memory is this call's.
    #[must_use]
    pub fn begin_shared(&self) -> Self {
        let requests = self.requests.clone();
        Self { requests, ..Self::new(self.deadline(), self.share, self.memory.clone()) }
    }

    /// The number of requests that are sent for this call.
    #[must_use]
    pub fn requests(&self) -> RequestCount {
        self.requests.clone()
    }

    /// Lets another call wait for this one's requests too.
    pub fn join(&self, other: &Self) {
        let (deadline, share) = (other.deadline(), other.share);
        let mut waiting = self.lock();
        waiting.deadline = waiting.deadline.zip(deadline).map(|(mine, theirs)| mine.max(theirs));
        if share != self.share && !waiting.other_shares.contains(&share) {
            waiting.other_shares.push(share);
            drop(waiting);
            self.joined.notify_waiters();
        }
    }

    /// Waits until shortly before this call's deadline, for the status to arrive in time.
    pub async fn nearly_over(&self) {
        let deadline = self.deadline();
        match deadline {
            None => std::future::pending().await,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                sleep_until(self.end_of_wait(left)).await;
            }
        }
    }

    /// The refusal of a call whose time runs out while its request waits for a permit or a budget.
    #[must_use]
    pub fn queued(&self) -> Option<RexError> {
        self.lock().queued.clone()
    }

    /// The caller's deadline. No wait begins that would pass it.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.lock().deadline
    }

    /// Waits for a permit as long as the call's deadline allows, at most `limit`. `refusal` is the error if there is none in
    /// time. The request waits in the queue of each share, so that a call which joins another's read does not wait for
    /// everything else that the other one has queued.
    pub(super) async fn acquire(
        &self,
        permits: &Permits,
        limit: Duration,
        refusal: RexError,
    ) -> Result<Permit, RexError> {
        self.within_or(limit, refusal, self.next_permit(permits)).await
    }

    /// Waits for what a request needs as long as the call's deadline allows, at most `limit`. `refusal` is the error if it does
    /// not come in time.
    pub(super) async fn within_or<T>(
        &self,
        limit: Duration,
        refusal: RexError,
        needed: impl Future<Output = T>,
    ) -> Result<T, RexError> {
        self.lock().queued = Some(refusal.clone());
        let outcome = self.within(limit, needed).await;
        self.lock().queued = None;
        outcome.ok_or(refusal)
    }

    /// Waits for a permit in the queue of each share.
    pub(super) async fn next_permit(&self, permits: &Permits) -> Permit {
        let mut queues = FuturesUnordered::new();
        queues.push(permits.acquire(self.share));
        loop {
            let joined = self.joined.notified();
            tokio::pin!(joined);
            joined.as_mut().enable();
            for share in self.lock().other_shares.iter().skip(queues.len() - 1) {
                queues.push(permits.acquire(*share));
            }
            tokio::select! {
                biased;
                Some(permit) = queues.next() => return permit,
                () = joined => {}
            }
        }
    }

    /// Waits for `future` as long as [`end_of_wait`](Self::end_of_wait) allows, also if a call joins meanwhile that waits longer.
    pub(super) async fn within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        let began = Instant::now();
        tokio::pin!(future);
        loop {
            let end = self.end_of_wait_since(began, limit);
            tokio::select! {
                biased;
                outcome = &mut future => return Some(outcome),
                () = sleep_until(end) => {}
            }
            if self.end_of_wait_since(began, limit) <= Instant::now() {
                return None;
            }
        }
    }

    /// Reserves memory for what is read for this call.
    ///
    /// # Errors
    /// [`RexError::Overloaded`] if there is none.
    pub fn reserve(&self, bytes: usize) -> Result<Reservation, RexError> {
        self.memory.reserve(bytes)
    }

    pub(super) fn memory(&self) -> &MemoryAccount {
        &self.memory
    }

    /// Counts a request that is about to be sent. It is an error when the call has sent as many as it may.
    pub(super) fn count_request(&self, at: &At) -> Result<(), RexError> {
        if self.sent.fetch_add(1, Relaxed) < MAX_REQUESTS {
            self.requests.0.fetch_add(1, Relaxed);
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
    pub fn end_of_wait(&self, limit: Duration) -> Instant {
        self.end_of_wait_since(Instant::now(), limit)
    }

    fn end_of_wait_since(&self, began: Instant, limit: Duration) -> Instant {
        let left = self.deadline().map_or(limit, |deadline| {
            let left = deadline.saturating_duration_since(began);
            limit.min(left - (left / 10).min(MAX_STATUS_MARGIN))
        });
        began + left
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

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

    #[tokio::test(start_paused = true)]
    async fn a_read_waits_as_long_as_the_most_patient_of_its_calls() {
        let after = |seconds| Some(Instant::now() + Duration::from_secs(seconds));
        let (first, second, endless) = (context(after(5)), context(after(20)), context(None));
        let read = first.begin_shared();
        let began = Instant::now();
        let waits = async {
            read.within(Duration::from_secs(60), std::future::pending::<()>()).await;
            began.elapsed().as_millis()
        };
        let joins = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            read.join(&second);
        };
        let (waited, ()) = tokio::join!(waits, joins);
        assert_eq!(waited, 19_750);
        read.join(&endless);
        read.join(&first);
        assert_eq!(read.deadline(), None);
    }

    #[tokio::test]
    async fn a_read_gets_the_first_permit_of_all_its_shares() {
        let permits = Permits::new(1);
        let held = permits.try_acquire().unwrap();
        let call = |name| {
            let limits = MemoryLimits { total: 1, per_peer: 1, per_caller: 1 };
            CallContext::new(None, Share::of(name), MemoryBudget::new(limits).account())
        };
        let (busy, other) = (call("busy"), call("other"));
        let refusal = || RexError::Overloaded { problem: String::new(), retry_after: Duration::from_secs(1) };
        // Each of these holds its permit once it has it, so the queue of `busy` does not end.
        let mut queue: FuturesUnordered<_> = (0..100).map(|_| permits.acquire(Share::of("busy"))).collect();
        assert!(futures_util::poll!(queue.next()).is_pending());
        let read = busy.begin_shared();
        let limit = Duration::from_secs(60);
        let mut waits = std::pin::pin!(read.acquire(&permits, limit, refusal()));
        assert!(futures_util::poll!(&mut waits).is_pending());
        assert!(matches!(read.queued(), Some(RexError::Overloaded { .. })));
        read.join(&other);
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(held);
        let first = queue.next().await.unwrap();
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(first);
        assert!(waits.await.is_ok());
        assert!(read.queued().is_none());
    }
}
