//! One manifest: from memory, confirmed by the registry, or fetched.
//!
//! A tag may move, so what it named is given only within the allowed age. After that a HEAD asks for its digest, which costs no
//! pull at registries that count them, and a GET follows only if the tag has moved. A digest always names the same content, so only access
//! to it is asked for again, with a HEAD too.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;

use super::{
    Reads,
    answer::{Answer, Source},
    documents::{Kept, ManifestView, State},
    flight::Join,
    freshness::{Freshness, is_no_response},
    keys::ManifestKey,
};
use crate::{
    client::{Accept, CallContext, Target},
    error::RexError,
    oci::Reference,
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
        let way = self.way(self.configured(&key), max_age);
        let join = match (reference, max_age) {
            (Reference::Digest(_), None) => Join::Any,
            (Reference::Digest(_) | Reference::Tag(_), _) => Join::Since(freshness.allowed()),
        };
        let read = |call: Arc<CallContext>| {
            let (reads, key) = (self.clone(), Arc::clone(&key));
            async move { reads.refresh(&key, way, &call).await }.boxed()
        };
        let refusal = || inner.client.pause(&target.registry, Some(&target.repository));
        let (outcome, _) = inner.manifests.join(&(Arc::clone(&key), way), join, call, refusal, read).await;
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
        let stale_if_error = settings.stale_if_error(&key.target.registry);
        Freshness::new(max_age, self.configured(key), settings.access_check, stale_if_error)
    }

    /// How old a response may be, unless the caller says otherwise.
    pub(super) fn configured(&self, key: &ManifestKey) -> Duration {
        let settings = &self.0.settings;
        match key.reference {
            Reference::Tag(_) => settings.tags.min(settings.access_check),
            Reference::Digest(_) => settings.access_check,
        }
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
}
