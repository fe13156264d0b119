//! The requests of this replica that wait for a budget, first in, first out, and those that hold a permit.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use crate::client::FleetPermit;

/// Those that wait, and the number of those that hold a permit.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiter>,
    held: usize,
}

#[derive(Debug)]
struct Waiter {
    /// Whether the request counts as one in flight.
    counts_as_held: bool,
    admitted: oneshot::Sender<FleetPermit>,
}

/// A request in flight.
#[derive(Debug)]
struct Held(Arc<Queue>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.lock().held -= 1;
        self.0.changed.notify_one();
    }
}

impl Queue {
    /// Waits to be admitted.
    pub(super) async fn wait(&self, counts_as_held: bool) -> FleetPermit {
        let (admitted, permit) = oneshot::channel();
        self.lock().waiting.push_back(Waiter { counts_as_held, admitted });
        self.changed.notify_one();
        // The task that admits ends only with the budget itself.
        permit.await.unwrap_or_else(|_| FleetPermit::untracked())
    }

    /// Waits until a request has come, or a permit was returned.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn anyone_waits(&self) -> bool {
        self.wants() != (0, 0)
    }

    /// How many wait that will hold a permit, and how many that will not. Forgets those that have gone.
    pub(super) fn wants(&self) -> (usize, usize) {
        let mut state = self.lock();
        state.waiting.retain(|waiter| !waiter.admitted.is_closed());
        let permits = state.waiting.iter().filter(|waiter| waiter.counts_as_held).count();
        (permits, state.waiting.len() - permits)
    }

    /// How many hold a permit.
    pub(super) fn held(&self) -> usize {
        self.lock().held
    }

    /// Admits the first one that still waits; with `permit` any, else the first that needs none. Returns whether it
    /// holds a permit now, or `None` if there is nobody.
    pub(super) fn admit_next(self: &Arc<Self>, permit: bool) -> Option<bool> {
        loop {
            let mut state = self.lock();
            let index = state.waiting.iter().position(|waiter| permit || !waiter.counts_as_held)?;
            let waiter = state.waiting.remove(index)?;
            let granted = if waiter.counts_as_held {
                state.held += 1;
                FleetPermit::new(Box::new(Held(Arc::clone(self))))
            } else {
                FleetPermit::untracked()
            };
            // A permit that nobody takes is returned when it is dropped, which takes the lock.
            drop(state);
            if waiter.admitted.send(granted).is_ok() {
                return Some(waiter.counts_as_held);
            }
        }
    }

    /// Admits all that wait.
    pub(super) fn admit_all(self: &Arc<Self>) {
        while self.admit_next(true).is_some() {}
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiters_are_admitted_in_order_and_cancelled_waiters_are_removed() {
        let queue = Arc::new(Queue::default());
        let wait = |counts: bool| {
            let queue = Arc::clone(&queue);
            Box::pin(async move { queue.wait(counts).await })
        };
        let mut waits = [wait(true), wait(false), wait(true), wait(true)];
        for wait in &mut waits {
            assert!(futures_util::poll!(wait).is_pending());
        }
        let [first, second, third, fourth] = waits;
        assert_eq!(queue.wants(), (3, 1));
        drop(third);
        assert_eq!(queue.wants(), (2, 1));
        // Without a permit, only the one that needs none is admitted.
        assert_eq!(queue.admit_next(false), Some(false));
        assert_eq!(queue.admit_next(false), None);
        assert_eq!(queue.admit_next(true), Some(true));
        let (first, second) = (first.await, second.await);
        assert_eq!(queue.held(), 1);
        drop(second);
        assert_eq!(queue.held(), 1);
        drop(first);
        assert_eq!(queue.held(), 0);
        queue.admit_all();
        // The permit of one that leaves after it was granted comes back.
        assert_eq!(queue.held(), 1);
        drop(fourth);
        assert_eq!((queue.held(), queue.wants()), (0, (0, 0)));
    }
}
