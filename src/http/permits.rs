//! Permits for the requests to one registry, granted fairly to those who share it.
//!
//! Tokio's semaphore is first in, first out: a caller that makes a thousand calls at once makes every other caller wait for
//! all of them. Here the waiters of one [`Share`] form a queue of their own, and a free permit goes to the next queue in
//! turn.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::{fleet::FleetPermit, share::Share};

/// A fixed number of permits.
#[derive(Debug, Clone)]
pub(super) struct Permits(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Permits that nobody holds. While this is not zero, nobody waits.
    free: usize,
    /// The queues of the shares that have waiters, never empty ones.
    queues: HashMap<Share, Queue>,
    /// The same shares, in the order in which they get permits.
    turns: BTreeMap<u64, Share>,
    /// The next number of a turn or a waiter.
    next: u64,
}

/// The waiters of one share, first in, first out.
#[derive(Debug)]
struct Queue {
    turn: u64,
    waiters: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A permit. It is returned when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Permits,
    /// What all replicas together permit, if there are others.
    _fleet: Option<FleetPermit>,
}

/// A place in a queue. It is given up when it is dropped.
struct Waiter {
    permits: Permits,
    share: Share,
    number: u64,
    /// Whether the permit has become a [`Permit`].
    taken: bool,
}

impl Permits {
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new(Mutex::new(State { free: count, ..State::default() })))
    }

    /// A permit if one is free.
    pub(super) fn try_acquire(&self) -> Option<Permit> {
        let mut state = self.lock();
        state.free = state.free.checked_sub(1)?;
        Some(Permit::of(self))
    }

    /// Waits for a permit. Cancel safe: a future that is dropped leaves its queue, and passes on a permit that it has
    /// just been granted.
    pub(super) async fn acquire(&self, share: Share) -> Permit {
        let (mut waiter, granted) = {
            let mut state = self.lock();
            if let Some(left) = state.free.checked_sub(1) {
                state.free = left;
                return Permit::of(self);
            }
            let (sender, granted) = oneshot::channel();
            let number = state.enqueue(share, sender);
            (Waiter { permits: self.clone(), share, number, taken: false }, granted)
        };
        // The sender is dropped only by a grant, or by this waiter when it leaves.
        let _ = granted.await;
        waiter.taken = true;
        Permit::of(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Adds a waiter to the queue of its share. A share without waiters gets the last turn.
    fn enqueue(&mut self, share: Share, sender: oneshot::Sender<()>) -> u64 {
        let number = self.number();
        let queue = self.queues.entry(share).or_insert_with(|| {
            self.turns.insert(number, share);
            Queue { turn: number, waiters: BTreeMap::new() }
        });
        queue.waiters.insert(number, sender);
        number
    }

    /// Grants a returned permit to the next waiter of the share whose turn it is. That share's next turn is after all others.
    fn grant_next(&mut self) {
        let turn = self.number();
        let Some((_, share)) = self.turns.pop_first() else {
            self.free += 1;
            return;
        };
        let Some(queue) = self.queues.get_mut(&share) else { return };
        let first = queue.waiters.pop_first();
        if queue.waiters.is_empty() {
            self.queues.remove(&share);
        } else {
            queue.turn = turn;
            self.turns.insert(turn, share);
        }
        if let Some((_, sender)) = first {
            // The receiver is there: a waiter leaves the queue, under the same lock, before its receiver is dropped.
            let _ = sender.send(());
        }
    }

    /// Removes a waiter. `false` if it has been granted a permit already.
    fn remove(&mut self, share: Share, number: u64) -> bool {
        let Some(queue) = self.queues.get_mut(&share) else { return false };
        let was_waiting = queue.waiters.remove(&number).is_some();
        if queue.waiters.is_empty() {
            let turn = queue.turn;
            self.queues.remove(&share);
            self.turns.remove(&turn);
        }
        was_waiting
    }
}

impl Permit {
    fn of(permits: &Permits) -> Self {
        Self { permits: permits.clone(), _fleet: None }
    }

    /// Keeps a permit of the fleet as long as this one.
    pub(super) fn set_fleet(&mut self, permit: FleetPermit) {
        self._fleet = Some(permit);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.lock().grant_next();
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut state = self.permits.lock();
        if !state.remove(self.share, self.number) {
            state.grant_next();
        }
    }
}

#[cfg(test)]
#[path = "permits_tests.rs"]
mod tests;
