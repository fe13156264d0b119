//! What is kept in memory: manifests, what tags named, pages of lists, and that something is absent.
//!
//! All of it shares one bound in bytes. The least used is evicted (TinyLFU, with the library's estimate of use).

use std::sync::Arc;

use bytes::Bytes;
use moka::future::Cache;
use oci_spec::image::Descriptor;
use tokio::time::Instant;

use super::keys::{ManifestKey, PageKey};
use crate::{
    client::{ETag, Manifest, Page, PageVersion},
    error::RexError,
    oci::{Digest, Registry},
};

/// What an entry takes besides its content: its key with the names of registry, repository and reference, and the library's
/// bookkeeping.
const ENTRY_BYTES: usize = 512;

/// A manifest in the form that the layer above needs. It is made once, and given to all who ask.
pub trait ManifestView: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Makes the view. Runs off the runtime's threads for a large manifest.
    fn of(manifest: Manifest) -> Self;

    /// The exact bytes of the manifest.
    fn content(&self) -> Bytes;

    /// The bytes of memory that the view takes.
    fn bytes(&self) -> usize;
}

/// A manifest that is kept.
#[derive(Debug, Clone)]
pub struct Kept<V> {
    /// Its media type, digest and size.
    pub descriptor: Arc<Descriptor>,
    /// Its view.
    pub view: V,
}

impl<V: ManifestView> Kept<V> {
    pub(super) fn of(manifest: Manifest) -> Self {
        Self { descriptor: Arc::new(manifest.descriptor.clone()), view: V::of(manifest) }
    }
}

/// What a reference named when a credential read it.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// A manifest with this digest and media type.
    Present { digest: Digest, media_type: Arc<str>, etag: Option<ETag> },
    /// Nothing.
    Absent(Arc<RexError>),
}

/// A page of a list.
#[derive(Debug, Clone)]
pub(super) enum PageState {
    Present { page: Arc<Page>, version: Option<PageVersion> },
    Absent(Arc<RexError>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Content { registry: Registry, digest: Digest, media_type: Arc<str> },
    Manifest(Arc<ManifestKey>),
    Page(Arc<PageKey>),
}

#[derive(Debug, Clone)]
enum Entry<V> {
    Content(Kept<V>),
    State(State, Instant),
    Page(PageState, Instant),
}

impl<V: ManifestView> Entry<V> {
    fn bytes(&self) -> usize {
        match self {
            Self::Content(kept) => kept.view.bytes(),
            Self::State(..) => 0,
            Self::Page(PageState::Absent(_), _) => 0,
            Self::Page(PageState::Present { page, .. }, _) => {
                page.entries.iter().map(|name| name.len() + size_of::<String>()).sum()
            }
        }
    }
}

/// What is kept in memory.
#[derive(Debug)]
pub(super) struct Documents<V: ManifestView>(Option<Cache<Key, Entry<V>>>);

impl<V: ManifestView> Documents<V> {
    /// Keeps at most this many bytes; nothing with zero.
    pub(super) fn new(bytes: u64) -> Self {
        let weigh =
            |_: &Key, entry: &Entry<V>| u32::try_from(entry.bytes() + ENTRY_BYTES).unwrap_or(u32::MAX);
        Self((bytes > 0).then(|| Cache::builder().max_capacity(bytes).weigher(weigh).build()))
    }

    pub(super) async fn content(
        &self,
        registry: &Registry,
        digest: &Digest,
        media_type: &Arc<str>,
    ) -> Option<Kept<V>> {
        let media_type = Arc::clone(media_type);
        match self.get(&Key::Content { registry: registry.clone(), digest: digest.clone(), media_type }).await
        {
            Some(Entry::Content(kept)) => Some(kept),
            _ => None,
        }
    }

    pub(super) async fn keep_content(
        &self,
        registry: &Registry,
        digest: &Digest,
        media_type: &Arc<str>,
        kept: Kept<V>,
    ) {
        let (registry, digest, media_type) = (registry.clone(), digest.clone(), Arc::clone(media_type));
        self.insert(Key::Content { registry, digest, media_type }, Entry::Content(kept)).await;
    }

    /// What the reference named, and when the registry was asked.
    pub(super) async fn state(&self, key: &Arc<ManifestKey>) -> Option<(State, Instant)> {
        match self.get(&Key::Manifest(Arc::clone(key))).await {
            Some(Entry::State(state, asked)) => Some((state, asked)),
            _ => None,
        }
    }

    pub(super) async fn keep_state(&self, key: &Arc<ManifestKey>, state: State, asked: Instant) {
        self.insert(Key::Manifest(Arc::clone(key)), Entry::State(state, asked)).await;
    }

    pub(super) async fn forget_state(&self, key: &Arc<ManifestKey>) {
        self.remove(&Key::Manifest(Arc::clone(key))).await;
    }

    /// The page, and when the registry was asked.
    pub(super) async fn page(&self, key: &Arc<PageKey>) -> Option<(PageState, Instant)> {
        match self.get(&Key::Page(Arc::clone(key))).await {
            Some(Entry::Page(state, asked)) => Some((state, asked)),
            _ => None,
        }
    }

    pub(super) async fn keep_page(&self, key: &Arc<PageKey>, state: PageState, asked: Instant) {
        self.insert(Key::Page(Arc::clone(key)), Entry::Page(state, asked)).await;
    }

    pub(super) async fn forget_page(&self, key: &Arc<PageKey>) {
        self.remove(&Key::Page(Arc::clone(key))).await;
    }

    async fn get(&self, key: &Key) -> Option<Entry<V>> {
        self.0.as_ref()?.get(key).await
    }

    async fn insert(&self, key: Key, entry: Entry<V>) {
        if let Some(cache) = &self.0 {
            cache.insert(key, entry).await;
        }
    }

    async fn remove(&self, key: &Key) {
        if let Some(cache) = &self.0 {
            cache.invalidate(key).await;
        }
    }
}
