//! Coalescing: identical reads under way are one read of the registry ("single flight").
//!
//! What never changes joins any read that is under way. What may change joins only a read that began no longer ago than the
//! caller's allowed age. All others gather for the next read, which begins when the one under way has ended. So however many
//! calls come, there are two reads at most, and no call gets a state that is older than it allows.
//!
//! No task is spawned. A read is a shared future: any of its calls can poll it, and it is dropped with the last of them, which
//! ends the request to the registry.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{client::CallContext, error::RexError};

/// The next read begins after this time even if the one under way has not ended: a registry that does not respond to one request
/// may respond to another. So there are a few reads at once at most, as many as fit into the time limits of a request.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a call begins again because the read that it joined failed for a reason that may not be its own.
const MAX_REPEATS: u32 = 1;

/// Which reads under way a call may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    /// Any: the response is always the same.
    Any,
    /// One that began no longer ago than this. Zero is none.
    Since(Duration),
}

/// The reads under way of one operation.
#[derive(Debug)]
pub(super) struct Flights<K: Eq + Hash, T: Clone>(Arc<Table<K, T>>);

type Outcome<T> = Result<T, RexError>;
type Future<T> = BoxFuture<'static, Outcome<T>>;

#[derive(Debug)]
struct Table<K: Eq + Hash, T: Clone> {
    slots: Mutex<HashMap<K, Slot<T>>>,
    next_id: AtomicU64,
}

/// The reads of one key.
#[derive(Debug)]
struct Slot<T: Clone> {
    current: Option<Flight<T>>,
    /// The read that begins when the current one has ended.
    next: Option<Flight<T>>,
}

/// A read. It is held by the calls that wait for it.
#[derive(Debug)]
struct Flight<T: Clone> {
    id: u64,
    read: Option<WeakShared<Future<T>>>,
    began: Instant,
    call: Arc<CallContext>,
    ended: CancellationToken,
}

/// Removes a read from its slot when it ends or is dropped.
struct End<K: Eq + Hash, T: Clone> {
    table: Arc<Table<K, T>>,
    key: K,
    id: u64,
    ended: CancellationToken,
}

/// A read as a call waits for it.
struct Boarded<T: Clone> {
    read: Shared<Future<T>>,
    call: Arc<CallContext>,
    joined: bool,
}

impl<K: Eq + Hash, T: Clone> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::new(Table { slots: Mutex::default(), next_id: AtomicU64::new(0) }))
    }
}

impl<K, T> Flights<K, T>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Joins a read of `key` that is under way, or begins one with `read`. Returns the outcome, and whether another call began
    /// the read. `refusal` is the error if the call's time ends and the read waits for a reason that the caller should know.
    pub(super) async fn join(
        &self,
        key: &K,
        join: Join,
        call: &CallContext,
        refusal: impl Fn() -> Option<RexError>,
        read: impl Fn(Arc<CallContext>) -> Future<T>,
    ) -> (Outcome<T>, bool) {
        let (mut repeats, mut join) = (0, join);
        loop {
            let Boarded { read, call: shared, joined } = self.board(key, join, call, &read);
            let mut waiting = read.clone();
            drop(read);
            let outcome = tokio::select! {
                biased;
                outcome = &mut waiting => outcome,
                () = call.nearly_over() => match shared.queued().or_else(&refusal) {
                    Some(refusal) => return (Err(refusal), joined),
                    None => waiting.await,
                },
            };
            let again = match &outcome {
                // The limits on memory and on requests are those of the call that began the read.
                Err(RexError::Overloaded { .. }) => true,
                // What never changes may have come into being, or have been allowed, after the read began.
                Err(RexError::NotFound { .. } | RexError::Authentication { .. }) => join == Join::Any,
                Ok(_) | Err(_) => false,
            };
            if !(joined && again) || repeats == MAX_REPEATS {
                return (outcome, joined);
            }
            (repeats, join) = (repeats + 1, Join::Since(Duration::ZERO));
        }
    }

    fn board(
        &self,
        key: &K,
        join: Join,
        call: &CallContext,
        read: &impl Fn(Arc<CallContext>) -> Future<T>,
    ) -> Boarded<T> {
        // Dropped after the lock: the last reference to a read ends it, and then the read takes the lock.
        let (current, next);
        let mut slots = self.0.lock();
        let slot = slots.entry(key.clone()).or_insert(Slot { current: None, next: None });
        current = slot.current.as_ref().and_then(Flight::upgrade);
        let (Some(under_way), Some(flight)) = (&current, &slot.current) else {
            let (flight, boarded) = self.begin(key, call, None, read);
            slot.current = Some(flight);
            return boarded;
        };
        let may_join = match join {
            Join::Any => true,
            Join::Since(age) => !age.is_zero() && flight.began.elapsed() <= age,
        };
        if may_join {
            return flight.board(call, under_way.clone());
        }
        let ended = flight.ended.clone();
        next = slot.next.as_ref().and_then(Flight::upgrade);
        if let (Some(waiting), Some(flight)) = (&next, &slot.next) {
            return flight.board(call, waiting.clone());
        }
        let (flight, boarded) = self.begin(key, call, Some(ended), read);
        slot.next = Some(flight);
        boarded
    }

    /// A read that begins now, or after another has ended.
    fn begin(
        &self,
        key: &K,
        call: &CallContext,
        after: Option<CancellationToken>,
        read: &impl Fn(Arc<CallContext>) -> Future<T>,
    ) -> (Flight<T>, Boarded<T>) {
        let id = self.0.next_id.fetch_add(1, Relaxed);
        let (call, ended) = (Arc::new(call.begin_shared()), CancellationToken::new());
        let end = End { table: Arc::clone(&self.0), key: key.clone(), id, ended: ended.clone() };
        let read = read(Arc::clone(&call));
        let future = async move {
            if let Some(other) = after {
                // In either case it is time to begin.
                let _ = tokio::time::timeout(PATIENCE, other.cancelled()).await;
                end.table.begin_next(&end.key, end.id);
            }
            let outcome = read.await;
            drop(end);
            outcome
        };
        let read = future.in_current_span().boxed().shared();
        let flight =
            Flight { id, read: read.downgrade(), began: Instant::now(), call: Arc::clone(&call), ended };
        (flight, Boarded { read, call, joined: false })
    }
}

impl<T: Clone> Flight<T> {
    fn upgrade(&self) -> Option<Shared<Future<T>>> {
        self.read.as_ref()?.upgrade()
    }

    fn board(&self, call: &CallContext, read: Shared<Future<T>>) -> Boarded<T> {
        self.call.join(call);
        Boarded { read, call: Arc::clone(&self.call), joined: true }
    }
}

impl<K: Eq + Hash, T: Clone> Table<K, T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Slot<T>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next read the current one.
    fn begin_next(&self, key: &K, id: u64) {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(key) else { return };
        if let Some(flight) = slot.next.take_if(|flight| flight.id == id) {
            slot.current = Some(Flight { began: Instant::now(), ..flight });
        }
    }

    fn remove(&self, key: &K, id: u64) {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(key) else { return };
        for flight in [&mut slot.current, &mut slot.next] {
            flight.take_if(|flight| flight.id == id);
        }
        if slot.current.is_none() && slot.next.is_none() {
            slots.remove(key);
        }
    }
}

impl<K: Eq + Hash, T: Clone> Drop for End<K, T> {
    fn drop(&mut self) {
        self.table.remove(&self.key, self.id);
        self.ended.cancel();
    }
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
