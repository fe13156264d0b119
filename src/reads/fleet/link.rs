//! The link to the engine: connected, or away and looked for in the background.
//!
//! Every operation has [`OPERATION_LIMIT`]. The first one that fails closes the session, which ends all others that are
//! under way; those that come later find the engine away and do not wait. A task connects again, with back-off, and the
//! session that it opens has replied in time and has taken a write. So an outage costs each call that was under way at most
//! one wait, and no later call any.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use redis::{Cmd, Value, cmd};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    CONNECT_LIMIT, OPERATION_LIMIT,
    address::Address,
    counts::{Counts, EngineCounts, Outcome},
    failure::Failure,
    script::Script,
    session::Session,
    sign_in::SignIn,
    with_jitter,
};

/// The first pause before a new connection, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// After a session of this length the pauses begin anew. An engine that fails again and again is tried every two seconds.
const STABLE: Duration = Duration::from_secs(10);

/// For how long no writes are sent to an engine that has refused one because it is full.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// A link to an engine.
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    task: OnceLock<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    address: Address,
    sign_in: SignIn,
    /// The key that a new session writes.
    probe: String,
    state: watch::Sender<State>,
    full_until: Mutex<Option<Instant>>,
    counts: Counts,
}

#[derive(Debug, Clone)]
enum State {
    /// The first connection has not been tried yet, or is under way.
    Starting,
    Connected(Live),
    Away,
}

/// A session in use.
#[derive(Debug, Clone)]
struct Live {
    session: Arc<Session>,
    closed: CancellationToken,
    /// Whether it has been logged that the engine refuses operations.
    refused: Arc<AtomicBool>,
}

impl Link {
    pub(super) fn new(address: Address, sign_in: SignIn, probe: String) -> Self {
        let state = watch::Sender::new(State::Starting);
        let shared = Shared {
            address,
            sign_in,
            probe,
            state,
            full_until: Default::default(),
            counts: Counts::default(),
        };
        Self { shared: Arc::new(shared), task: OnceLock::new() }
    }

    /// Starts to connect, unless that has happened. Must be called within a runtime.
    pub(super) fn start(&self) {
        self.task.get_or_init(|| tokio::spawn(keep_connected(Arc::clone(&self.shared))).abort_handle());
    }

    /// Whether it is known that there is no session.
    pub(super) fn is_away(&self) -> bool {
        matches!(&*self.shared.state.borrow(), State::Away)
    }

    /// Opens a session of its own, for a check that wants the reason of a failure.
    pub(super) async fn open_session(&self) -> Result<Arc<Session>, String> {
        let Shared { address, sign_in, probe, .. } = &*self.shared;
        open(address, sign_in, probe).await.map_err(Failure::into_text)
    }

    /// What became of the operations so far.
    pub(super) fn counts(&self) -> EngineCounts {
        self.shared.counts.get()
    }

    /// Sends a command about one key. `None`: as if there were no engine.
    pub(super) async fn command(&self, key: &str, command: &Cmd) -> Option<Value> {
        self.run(async |session| session.connection(key)?.send(command).await).await
    }

    /// Runs a script about these keys, which are in one slot. `None`: as if there were no engine.
    pub(super) async fn script(&self, script: &Script, keys: &[&str], arguments: &[&str]) -> Option<Value> {
        let key = keys.first()?;
        self.run(async |session| session.connection(key)?.run(script, keys, arguments).await).await
    }

    /// Runs a script that needs memory of the engine.
    pub(super) async fn write_script(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[&str],
    ) -> Option<Value> {
        let key = keys.first()?;
        self.write(async |session| session.connection(key)?.run(script, keys, arguments).await).await
    }

    /// Runs an operation that needs memory of the engine. An engine that is full is left alone for a while.
    pub(super) async fn write(
        &self,
        operation: impl AsyncFnOnce(&Session) -> Result<Value, Failure>,
    ) -> Option<Value> {
        if self.is_full() {
            return None;
        }
        self.run(operation).await.inspect(|_| self.note_written())
    }

    /// Runs an operation under the limit. `None`: as if there were no engine.
    pub(super) async fn run(
        &self,
        operation: impl AsyncFnOnce(&Session) -> Result<Value, Failure>,
    ) -> Option<Value> {
        let (outcome, value) = match self.run_uncounted(operation).await {
            Ok(value) => (Outcome::Done, Some(value)),
            Err(outcome) => (outcome, None),
        };
        self.shared.counts.add(outcome);
        value
    }

    async fn run_uncounted(
        &self,
        operation: impl AsyncFnOnce(&Session) -> Result<Value, Failure>,
    ) -> Result<Value, Outcome> {
        let end = Instant::now() + OPERATION_LIMIT;
        let live = self.live(end).await?;
        let result = tokio::select! {
            biased;
            result = timeout_at(end, operation(&live.session)) => result,
            () = live.closed.cancelled() => return Err(Outcome::Failed),
        };
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Failure::Full(reason))) => {
                self.note_full(&reason);
                Err(Outcome::Refused)
            }
            Ok(Err(Failure::Busy)) => Err(Outcome::Skipped),
            Ok(Err(failure @ (Failure::Refused(_) | Failure::NoScript))) => {
                if !live.refused.swap(true, Relaxed) {
                    let reason = failure.into_text();
                    tracing::warn!(
                        reason,
                        "the shared engine refused an operation; it is not logged again before the next connection"
                    );
                }
                Err(Outcome::Refused)
            }
            Ok(Err(Failure::Away(reason))) => {
                self.shared.close(&live, &reason);
                Err(Outcome::Failed)
            }
            Err(_) => {
                self.shared.close(&live, &format!("no reply within {OPERATION_LIMIT:?}"));
                Err(Outcome::Waited)
            }
        }
    }

    /// The session, if the engine is there. Waits for the first connection until `end`.
    async fn live(&self, end: Instant) -> Result<Live, Outcome> {
        self.start();
        let mut state = self.shared.state.subscribe();
        let waited = timeout_at(end, state.wait_for(|state| !matches!(state, State::Starting))).await;
        match waited {
            Ok(Ok(state)) => match &*state {
                State::Connected(live) => Ok(live.clone()),
                State::Starting | State::Away => Err(Outcome::Skipped),
            },
            // The sender lives as long as the link.
            Ok(Err(_)) => Err(Outcome::Skipped),
            Err(_) => {
                self.shared.state.send_if_modified(|state| {
                    let starting = matches!(state, State::Starting);
                    if starting {
                        *state = State::Away;
                    }
                    starting
                });
                Err(Outcome::Waited)
            }
        }
    }

    /// Whether the engine has refused a write lately.
    fn is_full(&self) -> bool {
        let full_until = *self.shared.full_until.lock().unwrap_or_else(PoisonError::into_inner);
        let full = full_until.is_some_and(|until| Instant::now() < until);
        if full {
            self.shared.counts.add(Outcome::Refused);
        }
        full
    }

    fn note_written(&self) {
        let mut full_until = self.shared.full_until.lock().unwrap_or_else(PoisonError::into_inner);
        if full_until.take().is_some() {
            tracing::info!("the shared engine takes writes again");
        }
    }

    fn note_full(&self, reason: &str) {
        let mut full_until = self.shared.full_until.lock().unwrap_or_else(PoisonError::into_inner);
        if full_until.is_none() {
            tracing::warn!(reason, "the shared engine refuses writes; what it has is still read");
        }
        *full_until = Some(Instant::now() + FULL_PAUSE);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl Shared {
    /// Closes a session, unless that has happened, and logs why.
    fn close(&self, live: &Live, reason: &str) {
        let closed = self.state.send_if_modified(|state| {
            let current =
                matches!(state, State::Connected(current) if Arc::ptr_eq(&current.session, &live.session));
            if current {
                *state = State::Away;
            }
            current
        });
        if closed {
            tracing::warn!(reason, "the shared engine is away; this replica goes on alone");
        }
        live.closed.cancel();
    }
}

/// Keeps a session open.
async fn keep_connected(shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    // Whether the log says that the engine is away.
    let mut logged = false;
    loop {
        match open(&shared.address, &shared.sign_in, &shared.probe).await {
            Ok(session) => {
                if logged {
                    tracing::info!("the shared engine is back");
                }
                let began = Instant::now();
                let live = Live { session, closed: CancellationToken::new(), refused: Arc::default() };
                shared.state.send_replace(State::Connected(live.clone()));
                live.closed.cancelled().await;
                logged = true;
                if began.elapsed() >= STABLE {
                    pause = FIRST_PAUSE;
                }
            }
            Err(failure) => {
                shared.state.send_replace(State::Away);
                if !logged {
                    logged = true;
                    let reason = failure.into_text();
                    tracing::warn!(reason, "the shared engine is away; this replica goes on alone");
                }
            }
        }
        // Jitter, so that the replicas of a fleet do not come back in step.
        tokio::time::sleep(with_jitter(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn open(address: &Address, sign_in: &SignIn, probe: &str) -> Result<Arc<Session>, Failure> {
    let opened = tokio::time::timeout(CONNECT_LIMIT, Session::open(address, sign_in, probe)).await;
    opened.unwrap_or_else(|_| Err(Failure::Away(format!("not connected within {CONNECT_LIMIT:?}"))))
}

/// `SET key value PX ttl`.
pub(super) fn set(key: &str, value: &[u8], ttl: Duration) -> Cmd {
    let mut command = cmd("SET");
    command.arg(key).arg(value).arg("PX").arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1));
    command
}
