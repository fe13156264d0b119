//! What this replica shares with the others through the engine: what references name, access to blobs, pages, absences, the
//! content of manifests, and who reads the registry for all.
//!
//! An engine that is away, slow or full is as if there were none. What is taken from it goes into this replica's memory with its
//! age, and is used from there as if this replica had read it.
//!
//! Whoever can write to the engine can make a tag name another manifest of any content, for as long as `cache.tags` allows. The
//! content of a digest is hashed again, so it is what the digest says.
//!
//! | file | what it does |
//! |---|---|
//! | `names` | under which name something is shared |
//! | `forms` | its form in the engine, checked when it is taken |

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{sync::OnceCell, time::Instant};

use self::names::Place;
use super::{
    documents::{BlobState, PageState, State},
    fleet::{Engine, Kept, Lease, LeaseEnd, LeaseGuard, MAX_DOCUMENT},
    keys::{BlobKey, ManifestKey, PageKey},
};
use crate::{
    client::{Client, CredentialId},
    oci::{Digest, Registry},
};

mod forms;
mod names;

/// For how long the engine keeps what a tag named. After `cache.tags` it is not given any more, but a HEAD can confirm it.
const STATE_TTL: Duration = Duration::from_secs(60 * 60);

/// For how long the engine keeps content, unless it evicts it before.
const CONTENT_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The most bytes of what is known about a manifest or a blob.
const STATE_BYTES: usize = 4 * 1024;

/// The most identities of credentials that are remembered; rotations make new ones.
const MAX_STRETCHED: usize = 1024;

/// How often a replica waits for another one that then has no result, before it goes on alone.
const MAX_WAITS: u32 = 3;

/// The engine as the reads use it.
#[derive(Debug)]
pub(super) struct Shared {
    engine: Engine,
    client: Arc<Client>,
    stretched: Mutex<HashMap<CredentialId, Arc<OnceCell<Arc<str>>>>>,
}

/// Whether this replica is to ask the registry.
pub(super) enum Turn<T> {
    /// It is, until the guard is dropped; without one, it goes on alone.
    Own(Option<LeaseGuard>),
    /// Another replica has asked: this is what was said.
    Taken(T),
}

/// Where something of a registry is shared.
struct Owner {
    url: String,
    credential: Option<Arc<str>>,
}

impl Owner {
    fn place<'a>(&'a self, registry: &'a Registry) -> Place<'a> {
        Place { registry, url: &self.url, credential: self.credential.as_deref() }
    }
}

impl Shared {
    pub(super) fn new(engine: Engine, client: Arc<Client>) -> Self {
        Self { engine, client, stretched: Mutex::default() }
    }

    /// Whether it is known that the engine is away.
    pub(super) fn is_away(&self) -> bool {
        self.engine.is_away()
    }

    /// What a reference named, and when the registry was asked.
    pub(super) async fn state(&self, key: &ManifestKey) -> Option<(State, Instant)> {
        let name = self.manifest_name(key).await?;
        let kept = self.engine.get(&name, STATE_BYTES).await?;
        asked(&kept, forms::read_state(&kept.value, &key.reference, key.at())?)
    }

    /// Shares what a reference named. `absent` is for how long that it is absent counts.
    pub(super) async fn put_state(&self, key: &ManifestKey, state: &State, asked: Instant, absent: Duration) {
        let Some(name) = self.manifest_name(key).await else { return };
        let ttl = if let State::Absent(_) = state { absent } else { STATE_TTL };
        self.put(&name, &forms::write_state(state, asked.elapsed()), ttl).await;
    }

    /// Removes what a reference named: the registry says now that it may not be read.
    pub(super) async fn forget_state(&self, key: &ManifestKey) {
        if let Some(name) = self.manifest_name(key).await {
            self.engine.remove(&name).await;
        }
    }

    /// Waits for the replica that asks what a reference names, or becomes the one. `taken` looks for what it has put.
    pub(super) async fn manifest_turn<'a, T>(
        &self,
        key: &ManifestKey,
        taken: impl Fn() -> BoxFuture<'a, Option<T>> + Send,
    ) -> Turn<T> {
        self.turn(self.manifest_name(key).await, taken).await
    }

    /// What is known about a blob, and when the registry was asked.
    pub(super) async fn blob_state(&self, key: &BlobKey) -> Option<(BlobState, Instant)> {
        let name = self.blob_name(key).await?;
        let kept = self.engine.get(&name, STATE_BYTES).await?;
        asked(&kept, forms::read_blob(&kept.value, key.at())?)
    }

    /// Shares what is known about a blob, for `ttl`.
    pub(super) async fn put_blob_state(
        &self,
        key: &BlobKey,
        state: &BlobState,
        asked: Instant,
        ttl: Duration,
    ) {
        let Some(name) = self.blob_name(key).await else { return };
        self.put(&name, &forms::write_blob(state, asked.elapsed()), ttl).await;
    }

    /// A page of a list, and when the registry was asked.
    pub(super) async fn page(&self, key: &PageKey) -> Option<(PageState, Instant)> {
        let name = self.page_name(key).await?;
        let kept = self.engine.get(&name, MAX_DOCUMENT).await?;
        asked(&kept, forms::read_page(&kept.value, key.at(), &key.request.listing)?)
    }

    /// Shares a page, or that the list is absent, for `ttl`.
    pub(super) async fn put_page(&self, key: &PageKey, state: &PageState, asked: Instant, ttl: Duration) {
        let Some(name) = self.page_name(key).await else { return };
        self.put(&name, &forms::write_page(state, asked.elapsed()), ttl).await;
    }

    /// Removes a page: the registry says now that it may not be read.
    pub(super) async fn forget_page(&self, key: &PageKey) {
        if let Some(name) = self.page_name(key).await {
            self.engine.remove(&name).await;
        }
    }

    /// Waits for the replica that reads a page, or becomes the one.
    pub(super) async fn page_turn<'a, T>(
        &self,
        key: &PageKey,
        taken: impl Fn() -> BoxFuture<'a, Option<T>> + Send,
    ) -> Turn<T> {
        self.turn(self.page_name(key).await, taken).await
    }

    /// The content of a digest and its media type. It is not verified yet.
    pub(super) async fn content(&self, registry: &Registry, digest: &Digest) -> Option<(Arc<str>, Bytes)> {
        let name = self.content_name(registry, digest).await?;
        let kept = self.engine.get(&name, MAX_DOCUMENT).await?;
        forms::read_content(kept.value)
    }

    /// Shares the content of a digest.
    pub(super) async fn put_content(
        &self,
        registry: &Registry,
        digest: &Digest,
        media_type: &str,
        content: &[u8],
    ) {
        let Some(name) = self.content_name(registry, digest).await else { return };
        if let Some(value) = forms::write_content(media_type, content) {
            self.put(&name, &value, CONTENT_TTL).await;
        }
    }

    /// Removes content that was not what its digest says.
    pub(super) async fn forget_content(&self, registry: &Registry, digest: &Digest) {
        if let Some(name) = self.content_name(registry, digest).await {
            self.engine.remove(&name).await;
        }
    }

    /// Waits for the replica that fetches the content of a digest, or becomes the one.
    pub(super) async fn content_turn<'a, T>(
        &self,
        registry: &Registry,
        digest: &Digest,
        taken: impl Fn() -> BoxFuture<'a, Option<T>> + Send,
    ) -> Turn<T> {
        self.turn(self.content_name(registry, digest).await, taken).await
    }

    /// Waits for the replica that fetches a blob into the store of all replicas, or becomes the one.
    pub(super) async fn fill_turn<'a, T>(
        &self,
        key: &BlobKey,
        taken: impl Fn() -> BoxFuture<'a, Option<T>> + Send,
    ) -> Turn<T> {
        let registry = &key.target.registry;
        let owner = self.owner(registry, None).await;
        self.turn(owner.map(|owner| owner.place(registry).fill(&key.digest)), taken).await
    }

    async fn turn<'a, T>(
        &self,
        name: Option<String>,
        taken: impl Fn() -> BoxFuture<'a, Option<T>> + Send,
    ) -> Turn<T> {
        let Some(name) = name else { return Turn::Own(None) };
        for _ in 0..MAX_WAITS {
            let lease = self.engine.lease(&name).await;
            // Another replica may have put its result just before the lease was granted.
            if !matches!(lease, Lease::Busy(_))
                && let Some(taken) = taken().await
            {
                return Turn::Taken(taken);
            }
            match lease {
                Lease::Held(guard) => return Turn::Own(Some(guard)),
                Lease::Alone => return Turn::Own(None),
                Lease::Busy(waiter) => {
                    let end = waiter.wait().await;
                    if let Some(taken) = taken().await {
                        return Turn::Taken(taken);
                    }
                    if end == LeaseEnd::Alone {
                        break;
                    }
                }
            }
        }
        Turn::Own(None)
    }

    async fn put(&self, name: &str, value: &[u8], ttl: Duration) {
        match ttl {
            Duration::ZERO => self.engine.remove(name).await,
            _ => self.engine.put(name, value, ttl).await,
        }
    }

    async fn manifest_name(&self, key: &ManifestKey) -> Option<String> {
        let registry = &key.target.registry;
        Some(self.owner(registry, key.credential).await?.place(registry).manifest(key))
    }

    async fn blob_name(&self, key: &BlobKey) -> Option<String> {
        let registry = &key.target.registry;
        Some(self.owner(registry, key.credential).await?.place(registry).blob(key))
    }

    async fn page_name(&self, key: &PageKey) -> Option<String> {
        let (registry, _) = key.place();
        Some(self.owner(registry, key.credential).await?.place(registry).page(&key.request))
    }

    async fn content_name(&self, registry: &Registry, digest: &Digest) -> Option<String> {
        Some(self.owner(registry, None).await?.place(registry).content(digest))
    }

    /// `None` if the engine is away, so that nobody waits for the identity of a credential in vain.
    async fn owner(&self, registry: &Registry, credential: Option<CredentialId>) -> Option<Owner> {
        if self.is_away() {
            return None;
        }
        let url = self.client.base_url(registry).await?;
        let credential = match credential {
            Some(id) => Some(self.stretched(id).await?),
            None => None,
        };
        Some(Owner { url, credential })
    }

    /// The stretched identity of a credential, made once.
    async fn stretched(&self, id: CredentialId) -> Option<Arc<str>> {
        let cell = {
            let mut stretched = self.stretched.lock().unwrap_or_else(PoisonError::into_inner);
            if stretched.len() >= MAX_STRETCHED {
                stretched.clear();
            }
            Arc::clone(stretched.entry(id).or_default())
        };
        let stretch = async || tokio::task::spawn_blocking(move || id.stretched()).await.map(Into::into);
        cell.get_or_try_init(stretch).await.ok().cloned()
    }
}

/// When the registry was asked: before it was put, by the age that it had then.
fn asked<T>(kept: &Kept, (state, age): (T, Duration)) -> Option<(T, Instant)> {
    Some((state, Instant::now().checked_sub(age.checked_add(kept.age)?)?))
}
