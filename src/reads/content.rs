//! Manifests by digest, and what references named: in this replica's memory, or shared by all replicas.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Reads, Way,
    documents::{Kept, ManifestView, State},
    keys::ManifestKey,
};
use crate::{
    client::{CallContext, ETag},
    error::RexError,
    oci::{DEFAULT_ACCEPT, Digest},
};

impl<V: ManifestView> Reads<V> {
    /// The content of a digest, with the media type if it is known, from memory or from the engine.
    pub(super) async fn content(
        &self,
        key: &ManifestKey,
        digest: &Digest,
        media_type: Option<&Arc<str>>,
        call: &CallContext,
    ) -> Option<Kept<V>> {
        let (documents, registry) = (&self.0.documents, &key.target.registry);
        let defaults = || DEFAULT_ACCEPT.into_iter().map(Arc::from);
        let media_types = media_type.map_or_else(|| defaults().collect(), |one| vec![Arc::clone(one)]);
        for media_type in &media_types {
            if let Some(kept) = documents.content(registry, digest, media_type).await {
                return Some(kept);
            }
        }
        let shared = self.0.shared.as_ref()?;
        let (held_type, content) = shared.content(registry, digest).await?;
        if !media_types.contains(&held_type) {
            return None;
        }
        let content = (digest, &*held_type, content);
        match self.0.client.kept_manifest(&key.target, &key.accept, content, call, Kept::of).await {
            Ok(kept) => {
                documents.keep_content(registry, digest, &held_type, kept.clone()).await;
                Some(kept)
            }
            Err(RexError::Overloaded { .. }) => None,
            Err(error) => {
                tracing::warn!(%registry, %digest, %error, "a manifest of the shared engine is not used");
                shared.forget_content(registry, digest).await;
                None
            }
        }
    }

    /// Keeps what a reference named. `Way::Registry` keeps it in memory only: no other replica would use it without asking.
    pub(super) async fn keep_state(&self, key: &Arc<ManifestKey>, state: State, way: Way, asked: Instant) {
        if let (Some(shared), Way::Replicas) = (&self.0.shared, way) {
            shared.put_state(key, &state, asked, self.0.settings.absent).await;
        }
        self.0.documents.keep_state(key, state, asked).await;
    }

    /// Keeps a manifest that was fetched, and that the reference named it.
    pub(super) async fn keep(
        &self,
        key: &Arc<ManifestKey>,
        kept: &Kept<V>,
        etag: Option<ETag>,
        asked: Instant,
    ) {
        let registry = &key.target.registry;
        // The client has computed it.
        let Ok(digest) = kept.descriptor.digest().as_ref().parse::<Digest>() else { return };
        let media_type: Arc<str> = kept.descriptor.media_type().to_string().into();
        self.0.documents.keep_content(registry, &digest, &media_type, kept.clone()).await;
        if let Some(shared) = &self.0.shared {
            shared.put_content(registry, &digest, &media_type, &kept.view.content()).await;
        }
        self.keep_state(key, State::Present { digest, media_type, etag }, Way::Replicas, asked).await;
    }
}
