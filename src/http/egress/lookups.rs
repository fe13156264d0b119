//! Name lookups, bounded. The system resolver blocks a thread until it has a response, and a name server that never responds
//! makes that half a minute and more.
//!
//! Each lookup runs in a thread of its own. Threads of tokio's blocking pool would run out for everything else, and a runtime
//! waits for them when it shuts down. A lookup cannot be cancelled, so its permits move into the thread: when nobody waits for
//! the lookup any longer, it still counts. Registries that callers name have a bound of their own, so that lookups of their
//! names do not take the permits of the registries that the operator lists.

use std::{
    collections::HashMap,
    error::Error,
    fmt, io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The most lookups in progress for all listed registries together. Each is a thread: 2 MiB of address space, of which some
/// 20 KiB are in memory.
const MAX_LISTED: usize = 128;

/// The most lookups in progress for all unlisted registries together.
const MAX_UNLISTED: usize = 32;

/// The most lookups in progress for one registry. Most registries have three names: of the API, the token service and the
/// storage.
const MAX_PER_REGISTRY: usize = 4;

/// The longest wait for a permit. A lookup takes milliseconds, so permits that are not free after this time are held by lookups
/// that hang. The wait ends before most deadlines of callers, who then know why.
const MAX_WAIT: Duration = Duration::from_secs(2);

static LISTED: LazyLock<Bound> = LazyLock::new(|| Bound::new("that are listed", MAX_LISTED));
static UNLISTED: LazyLock<Bound> = LazyLock::new(|| Bound::new("that are not listed", MAX_UNLISTED));

/// Looks a name up and blocks until there is a result.
pub(in crate::http) type SystemResolver = Arc<dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// A bound that registries share.
#[derive(Debug, Clone)]
pub(in crate::http) struct Bound {
    whose: &'static str,
    permits: Arc<Semaphore>,
    count: usize,
}

impl Bound {
    pub(in crate::http) fn new(whose: &'static str, count: usize) -> Self {
        Self { whose, permits: Arc::new(Semaphore::new(count)), count }
    }
}

/// The lookups of one registry.
#[derive(Clone)]
pub(in crate::http) struct Lookups(Arc<Inner>);

struct Inner {
    system: SystemResolver,
    /// The limit for a whole lookup, the wait for a permit included.
    limit: Duration,
    shared: Bound,
    own: Arc<Semaphore>,
    /// The lookups that are waiting or in progress. Requests for the same name share one.
    in_progress: Mutex<HashMap<String, watch::Sender<State>>>,
}

/// How far a lookup is.
#[derive(Debug, Clone)]
enum State {
    Waiting,
    Running,
    Done(Result<Arc<[SocketAddr]>, LookupError>),
}

impl Lookups {
    /// The lookups of a registry, in the bound of the listed or of the unlisted ones. `connect_timeout` is the limit for a whole
    /// connection.
    pub(in crate::http) fn new(listed: bool, connect_timeout: Duration) -> Self {
        let bound = Bound::clone(if listed { &LISTED } else { &UNLISTED });
        let system: SystemResolver = Arc::new(|host| Ok((host, 0).to_socket_addrs()?.collect()));
        Self::with(system, bound, connect_timeout)
    }

    pub(in crate::http) fn with(system: SystemResolver, shared: Bound, connect_timeout: Duration) -> Self {
        Self(Arc::new(Inner {
            system,
            // Shorter than the limit for the connection, so that the error names the step that took too long.
            limit: connect_timeout - connect_timeout / 10,
            shared,
            own: Arc::new(Semaphore::new(MAX_PER_REGISTRY)),
            in_progress: Mutex::default(),
        }))
    }

    /// The addresses of a host. Joins a lookup of the same host that is in progress.
    pub(super) async fn look_up(&self, host: &str) -> Result<Arc<[SocketAddr]>, LookupError> {
        let mut state = self.join(host);
        let limit = self.0.limit;
        let done = tokio::time::timeout(limit, async {
            loop {
                if let Ok(done) = state.wait_for(|state| matches!(state, State::Done(_))).await {
                    return done.clone();
                }
                // The lookup gave up, because for a moment nobody waited for it.
                state = self.join(host);
            }
        });
        let seen = done.await;
        let seen = seen.unwrap_or_else(|_| state.borrow().clone());
        match seen {
            State::Done(result) => result,
            State::Waiting => Err(self.0.busy()),
            State::Running => Err(LookupError::Timeout { limit }),
        }
    }

    /// The state of the lookup of a host, which begins if it is not in progress.
    fn join(&self, host: &str) -> watch::Receiver<State> {
        let mut in_progress = self.0.lock();
        if let Some(sender) = in_progress.get(host) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(State::Waiting);
        in_progress.insert(host.to_owned(), sender.clone());
        tokio::spawn(Lookup { of: Arc::clone(&self.0), host: host.to_owned(), sender }.run());
        receiver
    }
}

impl Inner {
    /// Permits for one lookup: the registry's own, then the shared one.
    async fn permits(&self) -> Option<[OwnedSemaphorePermit; 2]> {
        let own = Arc::clone(&self.own).acquire_owned().await.ok()?;
        let shared = Arc::clone(&self.shared.permits).acquire_owned().await.ok()?;
        Some([own, shared])
    }

    fn busy(&self) -> LookupError {
        let Bound { whose, count, .. } = self.shared;
        if self.own.available_permits() == 0 && self.shared.permits.available_permits() > 0 {
            LookupError::Busy(format!("{MAX_PER_REGISTRY} name lookups of this registry are in progress"))
        } else {
            LookupError::Busy(format!("{count} name lookups of registries {whose} are in progress"))
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<State>>> {
        self.in_progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One lookup. When it is dropped, the next request for the name begins another one.
struct Lookup {
    of: Arc<Inner>,
    host: String,
    sender: watch::Sender<State>,
}

impl Lookup {
    /// Waits for permits and starts the thread. Gives up when nobody waits any longer, or when no permit becomes free.
    async fn run(self) {
        let permits = tokio::select! {
            permits = tokio::time::timeout(MAX_WAIT.min(self.of.limit), self.of.permits()) => permits,
            () = self.sender.closed() => return,
        };
        let Ok(Some(permits)) = permits else {
            let busy = self.of.busy();
            tracing::debug!(host = self.host, %busy, "no permit for a name lookup became free in time");
            self.sender.send_replace(State::Done(Err(busy)));
            return;
        };
        self.sender.send_replace(State::Running);
        let sender = self.sender.clone();
        let thread = thread::Builder::new().name("rexd-lookup".to_owned()).spawn(move || {
            let result = (self.of.system)(&self.host).map(Arc::from).map_err(LookupError::from);
            self.sender.send_replace(State::Done(result));
            drop(permits);
        });
        if let Err(error) = thread {
            sender.send_replace(State::Done(Err(error.into())));
        }
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.of.lock().remove(&self.host);
    }
}

/// Why there are no addresses.
#[derive(Debug, Clone)]
pub(in crate::http) enum LookupError {
    /// The service looks up as many names as it may. The message says which limit is reached.
    Busy(String),
    /// There was no response within the limit.
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// The resolver's error, or the system's.
    Failed(Arc<io::Error>),
}

impl From<io::Error> for LookupError {
    fn from(error: io::Error) -> Self {
        Self::Failed(Arc::new(error))
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(problem) => f.write_str(problem),
            Self::Timeout { limit } => write!(f, "no response to the name lookup within {limit:?}"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl Error for LookupError {}

#[cfg(test)]
#[path = "lookups_tests.rs"]
mod tests;
