//! One read for everyone: identical reads under way are one read of the registry, and what was read is kept for those who ask
//! next. The handlers ask this layer, and it asks the client, which does not know of it.
//!
//! Nobody gets by it what he may not read, or anything older than he allows:
//!
//! - Every key has the identity of the credential with which the registry is asked. So what one credential has read is not given
//!   to a read with another one, and a rotated or removed credential takes its responses with it.
//! - Content is kept once for each registry and digest. Access to it is kept apart, for each repository and credential, and is
//!   asked for again after `access_check`. Content is not shared between registries: a hostile one could claim to have any digest.
//! - A response is given without asking the registry only within the age that the caller, or else the configuration, allows.
//!   With the defaults that is none for what may change.
//! - Errors are not kept, except that something is absent, where the configuration says so.
//!
//! | file | what it does |
//! |---|---|
//! | `manifest`, `list`, `ping` | the operations |
//! | `refresh`, `content` | what a reference names now; manifests by digest |
//! | `blobs` | blobs, kept or fetched once for all who read them |
//! | `platform` | picks the manifest of a platform from an index |
//! | `flight` | coalescing |
//! | `freshness` | decides how old a response may be |
//! | [`store`] | the content store: verified blobs in a directory or a bucket |
//! | [`fleet`] | the engine that the replicas of a fleet share: Redis or Valkey |
//! | `shared` | what this replica shares with the others through the engine |
//! | `documents`, `keys` | what is kept in memory, with a bound in bytes, and under which keys |
//! | `answer` | a response, where it came from, and how old it is |

use std::{collections::HashMap, sync::Arc, time::Duration};

use self::{
    answer::Asked,
    blobs::{Fills, Opened},
    documents::Documents,
    fleet::Engine,
    flight::Flights,
    freshness::Freshness,
    keys::{BlobKey, ManifestKey, PageKey},
    shared::Shared,
    store::ContentStore,
};
use crate::{
    client::{BlobHead, Client, Page, PingResponse},
    oci::Registry,
};

mod answer;
mod blobs;
mod content;
mod documents;
pub mod fleet;
mod flight;
mod freshness;
mod keys;
mod list;
mod manifest;
mod ping;
mod platform;
mod refresh;
mod shared;
pub mod store;

pub use answer::{Answer, Source};
pub use blobs::BlobRead;
pub use documents::{Kept, ManifestView};
pub use platform::{ManifestOptions, ManifestRead};

/// What is kept, and for how long.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The most bytes of what is kept in memory. Zero: nothing is kept.
    pub memory_bytes: u64,
    /// How old the digest of a tag may be, unless the caller says otherwise.
    pub tags: Duration,
    /// How old a page of a list may be, unless the caller says otherwise.
    pub lists: Duration,
    /// For how long something that was not found counts as absent.
    pub absent: Duration,
    /// For how long access counts as granted.
    pub access_check: Duration,
    /// How old a response may be that is given when the registry does not respond.
    pub stale_if_error: HashMap<Registry, Duration>,
}

/// Reads registries for all callers. Its clones are the same.
#[derive(Debug, Clone)]
pub struct Reads<V: ManifestView>(Arc<Inner<V>>);

#[derive(Debug)]
struct Inner<V: ManifestView> {
    client: Arc<Client>,
    settings: Settings,
    documents: Documents<V>,
    manifests: Flights<(Arc<ManifestKey>, Way), Asked<Kept<V>>>,
    lists: Flights<(Arc<PageKey>, Way), Asked<Arc<Page>>>,
    pings: Flights<Registry, PingResponse>,
    opens: Flights<Arc<BlobKey>, Opened>,
    heads: Flights<Arc<BlobKey>, Option<BlobHead>>,
    fills: Fills,
    store: Option<ContentStore>,
    shared: Option<Shared>,
}

impl<V: ManifestView> Reads<V> {
    /// Reads through `client`, keeps blobs in `store`, and shares what was read through `engine`.
    #[must_use]
    pub fn new(
        client: Client,
        settings: Settings,
        store: Option<ContentStore>,
        engine: Option<Engine>,
    ) -> Self {
        let client = Arc::new(client);
        Self(Arc::new(Inner {
            shared: engine.map(|engine| Shared::new(engine, Arc::clone(&client))),
            client,
            documents: Documents::new(settings.memory_bytes),
            settings,
            manifests: Flights::default(),
            lists: Flights::default(),
            pings: Flights::default(),
            opens: Flights::default(),
            heads: Flights::default(),
            fills: Fills::default(),
            store,
        }))
    }
}

/// How a read gets its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    /// From the registry.
    Registry,
    /// From another replica if it has one that is new enough, else from the registry.
    Replicas,
}

impl<V: ManifestView> Reads<V> {
    /// How a call gets a response that may be as old as `configured`. Every call that lets other replicas answer allows at least
    /// what the configuration allows, so all of them can share a read. That the engine is away changes nothing here: a read that
    /// began before it went away is shared too.
    fn way(&self, configured: Duration, max_age: Option<Duration>) -> Way {
        let least = configured.max(self.0.settings.absent);
        let is_allowed = !configured.is_zero() && max_age.is_none_or(|max_age| max_age >= least);
        match &self.0.shared {
            Some(_) if is_allowed => Way::Replicas,
            _ => Way::Registry,
        }
    }
}

impl Settings {
    /// How old the knowledge may be that something is absent.
    fn absent(&self, max_age: Option<Duration>) -> Freshness {
        let absent = max_age.map_or(self.absent, |max_age| max_age.min(self.absent));
        Freshness::new(None, absent, self.access_check, Duration::ZERO)
    }

    fn stale_if_error(&self, registry: &Registry) -> Duration {
        self.stale_if_error.get(registry).copied().unwrap_or_default()
    }
}
