//! What a reference names now: confirmed by the registry, fetched, or read by another replica.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{
    Reads, Way,
    answer::{Asked, Source},
    documents::{Kept, ManifestView, State},
    freshness::is_no_response,
    keys::ManifestKey,
    shared::{Shared, Turn},
};
use crate::{
    client::{CallContext, Conditional, ETag},
    error::RexError,
    oci::{Digest, Reference},
};

/// What a registry says to a HEAD.
enum Named<V> {
    /// The reference names this manifest.
    Known(Kept<V>),
    /// It names one that is not kept.
    Moved(Digest, Arc<str>),
    /// Only a GET can tell.
    Unknown,
}

impl<V: ManifestView> Reads<V> {
    /// Asks the registry, unless another replica has asked it.
    pub(super) async fn refresh(
        &self,
        key: &Arc<ManifestKey>,
        way: Way,
        call: &CallContext,
    ) -> Result<Asked<Kept<V>>, RexError> {
        let shared = self.0.shared.as_ref().filter(|shared| !shared.is_away());
        // The other replicas wait until the result is shared.
        let _lease = match (shared, way) {
            (Some(shared), Way::Replicas) => {
                match shared.manifest_turn(key, || self.taken(shared, key, call).boxed()).await {
                    Turn::Taken(outcome) => return outcome,
                    Turn::Own(lease) => lease,
                }
            }
            _ => None,
        };
        let asked = Instant::now();
        let outcome = self.ask(key, way, shared, asked, call).await;
        match &outcome {
            Err(error @ RexError::NotFound { .. }) => {
                let absent = self.0.settings.absent;
                self.0.documents.keep_absence(key, error, asked, absent).await;
                if let Some(shared) = shared {
                    let state = State::Absent(Arc::new(error.clone()));
                    shared.put_state(key, &state, asked, absent).await;
                }
            }
            Err(RexError::Authentication { .. }) => {
                self.0.documents.forget_state(key).await;
                if let Some(shared) = shared {
                    shared.forget_state(key).await;
                }
            }
            Ok(_) | Err(_) => {}
        }
        outcome.map(|(value, source)| Asked { value, source, asked })
    }

    /// What another replica has read, if it is new enough for every call that lets replicas answer.
    async fn taken(
        &self,
        shared: &Shared,
        key: &Arc<ManifestKey>,
        call: &CallContext,
    ) -> Option<Result<Asked<Kept<V>>, RexError>> {
        let (state, asked) = shared.state(key).await?;
        self.0.documents.keep_state(key, state.clone(), asked).await;
        let age = asked.elapsed();
        match state {
            State::Absent(error) => self.0.settings.absent(None).allows(age).then(|| Err((*error).clone())),
            State::Present { digest, media_type, .. } => {
                if age > self.configured(key) {
                    return None;
                }
                let value = self.content(key, &digest, Some(&media_type), call).await?;
                Some(Ok(Asked { value, source: Source::Hit, asked }))
            }
        }
    }

    /// Asks the registry: with a HEAD if there is something to confirm, else with a GET.
    async fn ask(
        &self,
        key: &Arc<ManifestKey>,
        way: Way,
        shared: Option<&Shared>,
        asked: Instant,
        call: &CallContext,
    ) -> Result<(Kept<V>, Source), RexError> {
        let known = self.known(key, call).await;
        // With replicas, another one may have fetched what the tag names: a HEAD tells, and costs no pull.
        let is_shared =
            shared.is_some() && way == Way::Registry && matches!(key.reference, Reference::Tag(_));
        if known.is_none() && !is_shared {
            return self.fetch(key, None, asked, call).await;
        }
        let (known, etag) = known.map_or((None, None), |(kept, etag)| (Some(kept), etag));
        let (digest, media_type) = match self.confirm(key, known, way, asked, call).await? {
            Named::Known(kept) => return Ok((kept, Source::Revalidated)),
            Named::Unknown => return self.fetch(key, etag, asked, call).await,
            Named::Moved(digest, media_type) => (digest, media_type),
        };
        let Some(shared) = shared else { return self.fetch(key, etag, asked, call).await };
        let taken = || self.content(key, &digest, Some(&media_type), call).boxed();
        match shared.content_turn(&key.target.registry, &digest, taken).await {
            Turn::Taken(kept) => {
                let etag = None;
                self.keep_state(key, State::Present { digest, media_type, etag }, Way::Replicas, asked).await;
                Ok((kept, Source::Revalidated))
            }
            Turn::Own(_lease) => self.fetch(key, etag, asked, call).await,
        }
    }

    /// What a HEAD could confirm. A GET with the entity tag follows if the registry does not say the digest.
    async fn known(&self, key: &Arc<ManifestKey>, call: &CallContext) -> Option<(Kept<V>, Option<ETag>)> {
        let mut state = self.0.documents.state(key).await;
        if state.is_none()
            && let Some(shared) = &self.0.shared
        {
            state = shared.state(key).await;
        }
        if let Some((State::Present { digest, media_type, etag }, _)) = state {
            return Some((self.content(key, &digest, Some(&media_type), call).await?, etag));
        }
        // Another repository or credential may have read the same digest.
        let Reference::Digest(digest) = &key.reference else { return None };
        Some((self.content(key, digest, None, call).await?, None))
    }

    /// Asks with a HEAD what the reference names now.
    async fn confirm(
        &self,
        key: &Arc<ManifestKey>,
        known: Option<Kept<V>>,
        way: Way,
        asked: Instant,
        call: &CallContext,
    ) -> Result<Named<V>, RexError> {
        let head = match self.0.client.manifest_head(&key.target, &key.reference, &key.accept, call).await {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(Named::Unknown),
            Err(error) if is_no_response(&error) || matches!(error, RexError::Overloaded { .. }) => {
                return Err(error);
            }
            Err(error) => {
                if matches!(error, RexError::NotFound { .. } | RexError::Authentication { .. }) {
                    // If the GET that follows gets no response, what was kept must not be given instead.
                    self.0.documents.forget_state(key).await;
                }
                // The response to a HEAD has no body that would say why.
                return Ok(Named::Unknown);
            }
        };
        let known_type = known.as_ref().map(|known| known.descriptor.media_type().to_string());
        let Some(media_type) = head.media_type.or_else(|| known_type.clone()) else {
            return Ok(Named::Unknown);
        };
        let digest = match (&key.reference, head.digest) {
            (Reference::Digest(wanted), digest) if digest.as_ref().is_none_or(|digest| digest == wanted) => {
                wanted.clone()
            }
            (Reference::Tag(_), Some(digest)) => digest,
            (Reference::Digest(_) | Reference::Tag(_), _) => return Ok(Named::Unknown),
        };
        let is_known = |known: &Kept<V>| {
            known.descriptor.digest().as_ref() == digest.as_str() && known_type.as_ref() == Some(&media_type)
        };
        let media_type: Arc<str> = media_type.as_str().into();
        let kept = match known.filter(is_known) {
            Some(known) => Some(known),
            None => self.content(key, &digest, Some(&media_type), call).await,
        };
        let Some(kept) = kept else { return Ok(Named::Moved(digest, media_type)) };
        self.keep_state(key, State::Present { digest, media_type, etag: head.etag }, way, asked).await;
        Ok(Named::Known(kept))
    }

    async fn fetch(
        &self,
        key: &Arc<ManifestKey>,
        unless: Option<ETag>,
        asked: Instant,
        call: &CallContext,
    ) -> Result<(Kept<V>, Source), RexError> {
        let ManifestKey { target, reference, accept, .. } = &**key;
        let client = &self.0.client;
        let mut fetched = client.manifest(target, reference, accept, unless.as_ref(), call, Kept::of).await?;
        if matches!(fetched, Conditional::NotModified) {
            if let Some((kept, etag)) = self.known(key, call).await.filter(|(_, etag)| *etag == unless) {
                self.keep(key, &kept, etag, asked).await;
                return Ok((kept, Source::Revalidated));
            }
            // It was evicted meanwhile.
            fetched = client.manifest(target, reference, accept, None, call, Kept::of).await?;
        }
        let Conditional::Modified(kept, etag) = fetched else {
            let problem = "status 304 to a request without a condition".to_owned();
            return Err(RexError::Validation { at: key.at(), problem });
        };
        self.keep(key, &kept, etag, asked).await;
        Ok((kept, Source::Miss))
    }
}
