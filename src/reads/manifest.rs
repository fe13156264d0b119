//! One manifest: from memory, confirmed by the registry, or fetched.
//!
//! A tag may move, so what it named is given only within the allowed age. After that a HEAD asks for its digest, which costs no
//! pull at registries that count them, and a GET follows only if the tag has moved. A digest always names the same content, so only access
//! to it is asked for again, with a HEAD too.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{
    Reads,
    answer::{Answer, Asked, Source},
    documents::{Kept, ManifestView, State},
    flight::Join,
    freshness::{Freshness, is_no_response},
    keys::ManifestKey,
};
use crate::{
    client::{Accept, CallContext, Conditional, ETag, Target},
    error::RexError,
    oci::{DEFAULT_ACCEPT, Digest, Reference},
};

impl<V: ManifestView> Reads<V> {
    /// Reads what a reference names.
    pub(super) async fn one_manifest(
        &self,
        target: &Target,
        reference: &Reference,
        accept: &Accept,
        max_age: Option<Duration>,
        call: &CallContext,
    ) -> Result<Answer<Kept<V>>, RexError> {
        let inner = &self.0;
        let credential = inner.client.credential(&target.registry, Some(&target.repository)).await;
        let key = Arc::new(ManifestKey {
            target: target.clone(),
            reference: reference.clone(),
            accept: accept.clone(),
            credential,
        });
        let freshness = self.freshness(&key, max_age);
        let absent = inner.settings.absent(max_age);
        if let Some(answer) = self.kept(&key, absent, |age| freshness.allows(age)).await {
            return answer;
        }
        let join = match (reference, max_age) {
            (Reference::Digest(_), None) => Join::Any,
            (Reference::Digest(_) | Reference::Tag(_), _) => Join::Since(freshness.allowed()),
        };
        let read = |call: Arc<CallContext>| {
            let (reads, key) = (self.clone(), Arc::clone(&key));
            async move { reads.refresh(&key, &call).await }.boxed()
        };
        let refusal = || inner.client.pause(&target.registry, Some(&target.repository));
        let (outcome, _) = inner.manifests.join(&key, join, call, refusal, read).await;
        match outcome {
            Ok(read) => Ok(read.answer()),
            Err(error) if is_no_response(&error) => {
                let kept = self.kept(&key, absent, |age| freshness.allows_if_error(age)).await;
                match kept {
                    Some(Ok(answer)) => Ok(Answer { source: Source::Stale, ..answer }),
                    Some(Err(_)) | None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn freshness(&self, key: &ManifestKey, max_age: Option<Duration>) -> Freshness {
        let settings = &self.0.settings;
        let configured = match key.reference {
            Reference::Tag(_) => settings.tags,
            Reference::Digest(_) => settings.access_check,
        };
        let stale_if_error = settings.stale_if_error(&key.target.registry);
        Freshness::new(max_age, configured, settings.access_check, stale_if_error)
    }

    /// The kept response, if its age is allowed. That something is absent is kept for a time of its own.
    async fn kept(
        &self,
        key: &Arc<ManifestKey>,
        absent: Freshness,
        allows: impl Fn(Duration) -> bool,
    ) -> Option<Result<Answer<Kept<V>>, RexError>> {
        let (state, asked) = self.0.documents.state(key).await?;
        let age = asked.elapsed();
        match state {
            State::Absent(error) => absent.allows(age).then(|| Err((*error).clone())),
            State::Present { digest, media_type, .. } if allows(age) => {
                let value = self.0.documents.content(&key.target.registry, &digest, &media_type).await?;
                Some(Ok(Answer { value, source: Source::Hit, age }))
            }
            State::Present { .. } => None,
        }
    }

    /// Asks the registry: with a HEAD if there is something to confirm, else with a GET.
    async fn refresh(&self, key: &Arc<ManifestKey>, call: &CallContext) -> Result<Asked<Kept<V>>, RexError> {
        let asked = Instant::now();
        let mut unless = None;
        if let Some((kept, etag)) = self.known(key).await {
            match self.confirm(key, kept, asked, call).await? {
                Some(value) => return Ok(Asked { value, source: Source::Revalidated, asked }),
                None => unless = etag,
            }
        }
        let outcome = self.fetch(key, unless, asked, call).await;
        match &outcome {
            Err(error @ RexError::NotFound { .. }) => {
                self.0.documents.keep_absence(key, error, asked, self.0.settings.absent).await;
            }
            Err(RexError::Authentication { .. }) => self.0.documents.forget_state(key).await,
            Ok(_) | Err(_) => {}
        }
        outcome.map(|(value, source)| Asked { value, source, asked })
    }

    /// What a HEAD could confirm. A GET with the entity tag follows if the registry does not say the digest.
    async fn known(&self, key: &Arc<ManifestKey>) -> Option<(Kept<V>, Option<ETag>)> {
        let documents = &self.0.documents;
        let registry = &key.target.registry;
        if let Some((State::Present { digest, media_type, etag }, _)) = documents.state(key).await {
            return Some((documents.content(registry, &digest, &media_type).await?, etag));
        }
        // Another repository or credential may have read the same digest.
        let Reference::Digest(digest) = &key.reference else { return None };
        for media_type in DEFAULT_ACCEPT {
            if let Some(kept) = documents.content(registry, digest, &Arc::from(media_type)).await {
                return Some((kept, None));
            }
        }
        None
    }

    /// Asks with a HEAD what the reference names now. `None` if only a GET can tell.
    async fn confirm(
        &self,
        key: &Arc<ManifestKey>,
        known: Kept<V>,
        asked: Instant,
        call: &CallContext,
    ) -> Result<Option<Kept<V>>, RexError> {
        let head = match self.0.client.manifest_head(&key.target, &key.reference, &key.accept, call).await {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(None),
            Err(error) if is_no_response(&error) || matches!(error, RexError::Overloaded { .. }) => {
                return Err(error);
            }
            Err(error) => {
                if matches!(error, RexError::NotFound { .. } | RexError::Authentication { .. }) {
                    // If the GET that follows gets no response, what was kept must not be given instead.
                    self.0.documents.forget_state(key).await;
                }
                // The response to a HEAD has no body that would say why.
                return Ok(None);
            }
        };
        let known_type = known.descriptor.media_type().to_string();
        let media_type: Arc<str> = head.media_type.unwrap_or_else(|| known_type.clone()).into();
        let digest = match (&key.reference, head.digest) {
            (Reference::Digest(wanted), digest) if digest.as_ref().is_none_or(|digest| digest == wanted) => {
                wanted.clone()
            }
            (Reference::Tag(_), Some(digest)) => digest,
            (Reference::Digest(_) | Reference::Tag(_), _) => return Ok(None),
        };
        let is_known = known.descriptor.digest().as_ref() == digest.as_str() && known_type == *media_type;
        let kept = if is_known {
            Some(known)
        } else {
            self.0.documents.content(&key.target.registry, &digest, &media_type).await
        };
        if kept.is_some() {
            let state = State::Present { digest, media_type, etag: head.etag };
            self.0.documents.keep_state(key, state, asked).await;
        }
        Ok(kept)
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
            if let Some((kept, etag)) = self.known(key).await.filter(|(_, etag)| *etag == unless) {
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

    /// Keeps a manifest, and that the reference named it.
    async fn keep(&self, key: &Arc<ManifestKey>, kept: &Kept<V>, etag: Option<ETag>, asked: Instant) {
        let documents = &self.0.documents;
        // The client has computed it.
        let Ok(digest) = kept.descriptor.digest().as_ref().parse::<Digest>() else { return };
        let media_type: Arc<str> = kept.descriptor.media_type().to_string().into();
        documents.keep_content(&key.target.registry, &digest, &media_type, kept.clone()).await;
        documents.keep_state(key, State::Present { digest, media_type, etag }, asked).await;
    }
}
