//! The upstreams of registries that the configuration does not list. Callers name these, so their number is bounded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{OnceCell, Semaphore},
    task,
};

use crate::{
    error::{At, RexError},
    oci::Registry,
    upstream::{Settings, Upstream},
};

/// The most unlisted registries that have connections, in use or idle. Each takes some sockets and a few MiB.
const MAX_UNLISTED: usize = 64;

/// An unlisted registry that is not used for this long is dropped, with its connections and tokens.
const FORGET_AFTER: Duration = Duration::from_secs(10 * 60);

/// When a caller may try again. Most calls end within seconds.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The most registries that are set up at once. Each takes some 10 ms of processor time, mostly to read the system's
/// certificates. More at once would slow down calls to other registries.
const MAX_SETUPS: usize = 1;

/// Makes the settings of a registry that the configuration does not list.
pub type Unlisted = Box<dyn Fn(&Registry) -> Option<Settings> + Send + Sync>;

/// The unlisted registries that have connections.
pub(super) struct UnlistedRegistries {
    settings: Unlisted,
    entries: Mutex<HashMap<Registry, Entry>>,
    setups: Arc<Semaphore>,
}

/// An upstream, or why it cannot be set up.
type Cell = Arc<OnceCell<Result<Arc<Upstream>, String>>>;

struct Entry {
    cell: Cell,
    last_used: Instant,
}

impl Entry {
    /// Whether a call or a stream holds the upstream, or waits until it is set up.
    fn is_in_use(&self) -> bool {
        let upstream = self.cell.get().and_then(|made| made.as_ref().ok());
        Arc::strong_count(&self.cell) > 1 || upstream.is_some_and(|upstream| Arc::strong_count(upstream) > 1)
    }
}

impl UnlistedRegistries {
    pub(super) fn new(settings: Unlisted) -> Self {
        Self { settings, entries: Mutex::default(), setups: Arc::new(Semaphore::new(MAX_SETUPS)) }
    }

    /// The upstream of a registry. The registry is in use until every clone of the upstream is dropped.
    pub(super) async fn get(&self, registry: &Registry) -> Result<Arc<Upstream>, RexError> {
        let cell = self.cell(registry)?;
        let made = cell.get_or_init(|| self.set_up(registry)).await;
        made.clone().map_err(|problem| {
            self.forget(registry, &cell);
            let at = At { registry: registry.to_string(), ..At::default() };
            RexError::RegistryNotAllowed { at, problem }
        })
    }

    /// Sets up a registry, in a thread where it blocks no other call.
    async fn set_up(&self, registry: &Registry) -> Result<Arc<Upstream>, String> {
        let settings = (self.settings)(registry).ok_or("it is not listed")?;
        let permit = Arc::clone(&self.setups).acquire_owned().await;
        let made = task::spawn_blocking(move || {
            let made = Upstream::new(settings).map(Arc::new).map_err(|error| error.problem);
            drop(permit);
            made
        });
        made.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// The cell of a registry. A new registry replaces the idle one that was not used for the longest time.
    fn cell(&self, registry: &Registry) -> Result<Cell, RexError> {
        let now = Instant::now();
        let mut entries = self.lock();
        entries.retain(|_, entry| entry.is_in_use() || now.duration_since(entry.last_used) < FORGET_AFTER);
        if let Some(entry) = entries.get_mut(registry) {
            entry.last_used = now;
            return Ok(Arc::clone(&entry.cell));
        }
        if entries.len() >= MAX_UNLISTED {
            let idle = entries.iter().filter(|(_, entry)| !entry.is_in_use());
            let oldest = idle.min_by_key(|(_, entry)| entry.last_used).map(|(name, _)| name.clone());
            let oldest = oldest.ok_or_else(|| RexError::Overloaded {
                problem: format!(
                    "calls use {MAX_UNLISTED} registries that the configuration does not list, which is the limit"
                ),
                retry_after: RETRY_AFTER,
            })?;
            entries.remove(&oldest);
        }
        let cell = Cell::default();
        entries.insert(registry.clone(), Entry { cell: Arc::clone(&cell), last_used: now });
        Ok(cell)
    }

    /// Drops the entry of a registry that could not be set up, unless a later one has replaced it.
    fn forget(&self, registry: &Registry, cell: &Cell) {
        let mut entries = self.lock();
        if entries.get(registry).is_some_and(|entry| Arc::ptr_eq(&entry.cell, cell)) {
            entries.remove(registry);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Registry, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
