//! What is kept in memory: manifests, what tags named, pages of lists, and that something is absent.
//!
//! All of it shares one bound in bytes. The least used is evicted (TinyLFU, with the library's estimate of use).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use moka::{future::Cache, ops::compute::Op};
use oci_spec::image::Descriptor;
use tokio::time::Instant;

use super::keys::{BlobKey, ManifestKey, PageKey};
use crate::{
    client::{ETag, Manifest, Page, PageVersion},
    error::RexError,
    oci::{Digest, Registry},
};

/// What an entry takes besides its texts and its content: the types themselves, and the library's bookkeeping.
const ENTRY_BYTES: usize = 512;

/// The texts of an error: its place, and what was not found.
const ERROR_BYTES: usize = 1024;

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

/// What a credential may know of a blob.
#[derive(Debug, Clone)]
pub(super) enum BlobState {
    /// It may read the blob, which has this media type and size.
    Present { media_type: Arc<str>, size: Option<u64> },
    /// There is no such blob.
    Absent(Arc<RexError>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Blob { registry: Registry, digest: Digest },
    BlobState(Arc<BlobKey>),
    Content { registry: Registry, digest: Digest, media_type: Arc<str> },
    Manifest(Arc<ManifestKey>),
    Page(Arc<PageKey>),
}

#[derive(Debug, Clone)]
enum Entry<V> {
    Blob(Bytes),
    BlobState(BlobState, Instant),
    Content(Kept<V>),
    State(State, Instant),
    Page(PageState, Instant),
}

impl<V: ManifestView> Entry<V> {
    /// The bytes of the content and of texts whose length others choose.
    fn bytes(&self) -> usize {
        match self {
            Self::Blob(content) => content.len(),
            Self::Content(kept) => kept.view.bytes(),
            Self::BlobState(BlobState::Present { media_type, .. }, _) => media_type.len(),
            Self::State(State::Present { media_type, etag, .. }, _) => {
                media_type.len() + etag.as_ref().map(ETag::len).unwrap_or_default()
            }
            Self::Page(PageState::Present { page, .. }, _) => {
                let names: usize = page.entries.iter().map(|name| name.len() + size_of::<String>()).sum();
                names
                    + page.next.as_ref().map(|next| next.encode().len()).unwrap_or_default()
                    + ETag::MAX_BYTES
            }
            Self::BlobState(BlobState::Absent(_), _)
            | Self::State(State::Absent(_), _)
            | Self::Page(PageState::Absent(_), _) => ERROR_BYTES,
        }
    }

    /// When the registry was asked; `None` for content, which never changes.
    fn asked(&self) -> Option<Instant> {
        match self {
            Self::Blob(_) | Self::Content(_) => None,
            Self::BlobState(_, asked) | Self::State(_, asked) | Self::Page(_, asked) => Some(*asked),
        }
    }
}

impl Key {
    /// The bytes of the texts, whose length others choose.
    fn bytes(&self) -> usize {
        match self {
            Self::Blob { registry, digest } => registry.as_str().len() + digest.as_str().len(),
            Self::Content { registry, digest, media_type } => {
                registry.as_str().len() + digest.as_str().len() + media_type.len()
            }
            Self::BlobState(key) => key.bytes(),
            Self::Manifest(key) => key.bytes(),
            Self::Page(key) => key.bytes(),
        }
    }
}

/// What is kept in memory.
#[derive(Debug, Clone)]
pub(super) struct Documents<V: ManifestView>(Option<Cache<Key, Entry<V>>>);

impl<V: ManifestView> Documents<V> {
    /// Keeps at most this many bytes; nothing with zero.
    pub(super) fn new(bytes: u64) -> Self {
        let weigh = |key: &Key, entry: &Entry<V>| {
            u32::try_from(key.bytes() + entry.bytes() + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
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

    /// Keeps that there is nothing, unless that counts for no time.
    pub(super) async fn keep_absence(
        &self,
        key: &Arc<ManifestKey>,
        error: &RexError,
        asked: Instant,
        time: Duration,
    ) {
        match time {
            Duration::ZERO => self.forget_state(key).await,
            _ => self.keep_state(key, State::Absent(Arc::new(error.clone())), asked).await,
        }
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

    /// Keeps that there is no such list, unless that counts for no time.
    pub(super) async fn keep_page_absence(
        &self,
        key: &Arc<PageKey>,
        error: &RexError,
        asked: Instant,
        time: Duration,
    ) {
        match time {
            Duration::ZERO => self.forget_page(key).await,
            _ => self.keep_page(key, PageState::Absent(Arc::new(error.clone())), asked).await,
        }
    }

    pub(super) async fn forget_page(&self, key: &Arc<PageKey>) {
        self.remove(&Key::Page(Arc::clone(key))).await;
    }

    /// The bytes of a small blob.
    pub(super) async fn blob(&self, registry: &Registry, digest: &Digest) -> Option<Bytes> {
        match self.get(&Key::Blob { registry: registry.clone(), digest: digest.clone() }).await {
            Some(Entry::Blob(content)) => Some(content),
            _ => None,
        }
    }

    pub(super) async fn keep_blob(&self, registry: &Registry, digest: &Digest, content: Bytes) {
        let key = Key::Blob { registry: registry.clone(), digest: digest.clone() };
        self.insert(key, Entry::Blob(content)).await;
    }

    /// What is known of a blob, and when the registry was asked.
    pub(super) async fn blob_state(&self, key: &Arc<BlobKey>) -> Option<(BlobState, Instant)> {
        match self.get(&Key::BlobState(Arc::clone(key))).await {
            Some(Entry::BlobState(state, asked)) => Some((state, asked)),
            _ => None,
        }
    }

    pub(super) async fn keep_blob_state(&self, key: &Arc<BlobKey>, state: BlobState, asked: Instant) {
        self.insert(Key::BlobState(Arc::clone(key)), Entry::BlobState(state, asked)).await;
    }

    /// Keeps that there is no such blob, unless that counts for no time.
    pub(super) async fn keep_blob_absence(
        &self,
        key: &Arc<BlobKey>,
        error: &RexError,
        asked: Instant,
        time: Duration,
    ) {
        match time {
            Duration::ZERO => self.forget_blob_state(key).await,
            _ => self.keep_blob_state(key, BlobState::Absent(Arc::new(error.clone())), asked).await,
        }
    }

    pub(super) async fn forget_blob_state(&self, key: &Arc<BlobKey>) {
        self.remove(&Key::BlobState(Arc::clone(key))).await;
    }

    async fn get(&self, key: &Key) -> Option<Entry<V>> {
        self.0.as_ref()?.get(key).await
    }

    /// Keeps an entry, unless there is one for which the registry was asked later: reads may overlap.
    async fn insert(&self, key: Key, entry: Entry<V>) {
        let Some(cache) = &self.0 else { return };
        let Some(asked) = entry.asked() else { return cache.insert(key, entry).await };
        let is_newer = |held: Entry<V>| held.asked().is_some_and(|held| held > asked);
        let keep = async |held: Option<moka::Entry<Key, Entry<V>>>| {
            if held.is_some_and(|held| is_newer(held.into_value())) { Op::Nop } else { Op::Put(entry) }
        };
        cache.entry(key).and_compute_with(keep).await;
    }

    async fn remove(&self, key: &Key) {
        if let Some(cache) = &self.0 {
            cache.invalidate(key).await;
        }
    }
}
