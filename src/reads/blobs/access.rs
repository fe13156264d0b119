//! What is known about a blob: whether a credential may read it, or that there is no such blob.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout_at};

use super::OCTETS;
use crate::{
    client::{BlobHead, CallContext},
    error::RexError,
    reads::{
        Reads,
        documents::{BlobState, ManifestView},
        flight::Join,
        keys::BlobKey,
        shared::Turn,
    },
};

/// The longest wait for another replica that fetches a blob into the bucket, and never more than half of the time that a call
/// has left: the other half is for reading the registry itself if the other replica fails.
const FILL_WAIT: Duration = Duration::from_secs(60);

impl<V: ManifestView> Reads<V> {
    /// Asks the registry whether the credential may read the blob.
    pub(super) async fn access(
        &self,
        key: &Arc<BlobKey>,
        call: &Arc<CallContext>,
    ) -> Result<Option<BlobHead>, RexError> {
        let ask = |call: Arc<CallContext>| {
            let (reads, key) = (self.clone(), Arc::clone(key));
            async move {
                let asked = Instant::now();
                let head = reads.0.client.blob_head(&key.target, &key.digest, call).await?;
                if let Some(head) = &head {
                    let media_type = head.media_type.as_deref().unwrap_or(OCTETS).into();
                    let state = BlobState::Present { media_type, size: head.size };
                    reads.keep_access(&key, state, asked).await;
                }
                Ok(head)
            }
            .boxed()
        };
        let refusal = || self.0.client.pause(&key.target.registry, Some(&key.target.repository));
        self.0.heads.join(key, Join::Any, call, refusal, ask).await.0
    }

    /// What another replica knows: that the credential may read the blob.
    pub(super) async fn shared_access(&self, key: &Arc<BlobKey>) -> Option<(BlobState, Instant)> {
        let shared = self.0.shared.as_ref()?;
        let (state, asked) = shared.blob_state(key).await?;
        let BlobState::Present { .. } = state else { return None };
        self.0.documents.keep_blob_state(key, state.clone(), asked).await;
        Some((state, asked))
    }

    /// What another replica knows: that there is no such blob.
    pub(super) async fn shared_absence(&self, key: &Arc<BlobKey>) -> Option<RexError> {
        let absent = self.0.settings.absent(None);
        if absent.allowed().is_zero() {
            return None;
        }
        let (state, asked) = self.0.shared.as_ref()?.blob_state(key).await?;
        let BlobState::Absent(error) = &state else { return None };
        let error = absent.allows(asked.elapsed()).then(|| (**error).clone())?;
        self.0.documents.keep_blob_state(key, state, asked).await;
        Some(error)
    }

    /// Keeps that the credential may read the blob.
    pub(super) async fn keep_access(&self, key: &Arc<BlobKey>, state: BlobState, asked: Instant) {
        if let Some(shared) = &self.0.shared {
            shared.put_blob_state(key, &state, asked, self.0.settings.access_check).await;
        }
        self.0.documents.keep_blob_state(key, state, asked).await;
    }

    /// Keeps that there is no such blob, or forgets what is known if the credential is refused.
    pub(super) async fn forget_access(&self, key: &Arc<BlobKey>, error: &RexError, asked: Instant) {
        let absent = match error {
            RexError::NotFound { .. } => self.0.settings.absent,
            RexError::Authentication { .. } => Duration::ZERO,
            _ => return,
        };
        self.0.documents.keep_blob_absence(key, error, asked, absent).await;
        if let Some(shared) = &self.0.shared {
            let state = BlobState::Absent(Arc::new(error.clone()));
            shared.put_blob_state(key, &state, asked, absent).await;
        }
    }

    /// Waits for another replica that fetches the blob into the store of all of them. `Taken` once it is there.
    pub(super) async fn fill_turn(&self, key: &Arc<BlobKey>, call: &CallContext) -> Turn<()> {
        let (Some(shared), Some(store)) = (&self.0.shared, &self.0.store) else { return Turn::Own(None) };
        if !store.is_shared() {
            return Turn::Own(None);
        }
        let is_stored = || async { store.get(&key.stored_name()).await.map(drop) }.boxed();
        let turn = shared.fill_turn(key, is_stored);
        let now = Instant::now();
        let half = call.deadline().map(|deadline| deadline.saturating_duration_since(now) / 2);
        let wait = half.map_or(FILL_WAIT, |half| half.min(FILL_WAIT));
        timeout_at(now + wait, turn).await.unwrap_or(Turn::Own(None))
    }
}
