//! Work on large bodies: hashing, parsing, conversion. It runs on threads of its own, and little of it at once.
//!
//! A thread of the runtime that parses a large body does nothing else meanwhile, so all calls that it serves wait. And a parsed
//! document takes up to six times the memory of its body, so only a few exist at the same time.

use std::{
    panic::resume_unwind,
    sync::{Arc, LazyLock},
    thread::available_parallelism,
    time::Duration,
};

use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{call::CallContext, permits::Permits};
use crate::error::RexError;

/// Work on a body of at most this size runs where its call runs: hashing and parsing an index of 64 KiB take 0.3 to 0.75 ms, and
/// one of 4 MiB 22 to 53 ms. Nearly all manifests and pages of lists are smaller.
const INLINE_BYTES: usize = 64 * 1024;

/// When a call may try again whose work could not begin in time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bounds the work of all registries together: more threads than cores would only take time from the runtime's threads.
static CORES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new(cores))
});

/// The work on one registry's large bodies. One piece of work runs at a time, and callers have their turns as for requests.
#[derive(Debug)]
pub(super) struct LargeWork {
    registry: String,
    turns: Permits,
}

impl LargeWork {
    pub(super) fn new(registry: String) -> Self {
        Self { registry, turns: Permits::new(1) }
    }

    /// Runs `work` on a body of this size. A large body's work waits for its turn as long as the call's deadline allows, at most
    /// `limit`. Once begun, it runs to its end and holds its turn, even if the call ends.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        call: &CallContext,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RexError> {
        if bytes <= INLINE_BYTES {
            return Ok(work());
        }
        let turn = async {
            // In this order, so that a registry waits for a core with one piece of work only.
            let turn = call.next_permit(&self.turns).await;
            (turn, Arc::clone(&CORES).acquire_owned().await)
        };
        let turn = call.within(limit, turn).await.ok_or_else(|| {
            overloaded(format!("other large responses of {} are being parsed", self.registry))
        })?;
        let outcome = spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        outcome.await.map_err(|error| match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => overloaded("it is shutting down".to_owned()),
        })
    }
}

fn overloaded(problem: String) -> RexError {
    RexError::Overloaded { problem, retry_after: RETRY_AFTER }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{
        sync::{
            atomic::{AtomicUsize, Ordering::SeqCst},
            mpsc,
        },
        thread::current,
    };

    use super::*;
    use crate::http::Share;
    use crate::memory::{MemoryBudget, MemoryLimits};

    const LARGE: usize = INLINE_BYTES + 1;

    fn call() -> &'static CallContext {
        let limits = MemoryLimits { total: 1, per_peer: 1, per_caller: 1 };
        Box::leak(Box::new(CallContext::new(None, Share::of(""), MemoryBudget::new(limits).account())))
    }

    #[tokio::test]
    async fn only_work_on_large_bodies_leaves_the_thread() {
        let work = LargeWork::new("r".to_owned());
        let here = current().id();
        let run = |bytes| work.run(bytes, call(), Duration::from_secs(60), || current().id());
        assert_eq!(run(INLINE_BYTES).await.unwrap(), here);
        assert_ne!(run(LARGE).await.unwrap(), here);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_large_bodies_of_one_registry_are_worked_on_one_at_a_time() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        let work = Arc::new(LargeWork::new("r".to_owned()));
        let run = || {
            let work = Arc::clone(&work);
            tokio::spawn(async move {
                let count = || {
                    let most = RUNNING.fetch_add(1, SeqCst) + 1;
                    std::thread::yield_now();
                    RUNNING.fetch_sub(1, SeqCst);
                    most
                };
                work.run(LARGE, call(), Duration::from_secs(60), count).await.unwrap()
            })
        };
        let running: Vec<_> = (0..100).map(|_| run()).collect();
        for one in running {
            assert_eq!(one.await.unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn work_whose_turn_does_not_come_in_time_is_refused_and_a_call_that_ends_keeps_the_turn() {
        let work = LargeWork::new("r".to_owned());
        let (finish, finished) = mpsc::channel::<()>();
        let waits = || work.run(LARGE, call(), Duration::ZERO, || ());
        let endless = work.run(LARGE, call(), Duration::from_secs(60), move || finished.recv());
        // Begins the work, and then gives up waiting for it.
        assert!(tokio::time::timeout(Duration::from_millis(100), endless).await.is_err());
        assert!(matches!(waits().await, Err(RexError::Overloaded { .. })));
        drop(finish);
        work.run(LARGE, call(), Duration::from_secs(60), || ()).await.unwrap();
    }
}
