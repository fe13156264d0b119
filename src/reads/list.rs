//! One page of a list: from memory, confirmed by the registry, or fetched.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{
    Reads, Way,
    answer::{Answer, Asked, Source},
    documents::{ManifestView, PageState},
    flight::Join,
    freshness::{Freshness, is_no_response},
    keys::PageKey,
    shared::{Shared, Turn},
};
use crate::{
    client::{CallContext, Page, PageRequest, PageVersion},
    error::RexError,
};

impl<V: ManifestView> Reads<V> {
    /// Reads a page of a list. `max_age` is how old it may be; `None` leaves it to the configuration.
    pub async fn list(
        &self,
        request: PageRequest,
        max_age: Option<Duration>,
        call: &CallContext,
    ) -> Result<Answer<Arc<Page>>, RexError> {
        let (inner, settings) = (&self.0, &self.0.settings);
        let mut key = PageKey { request, credential: None };
        let (registry, repository) = key.place();
        let freshness =
            Freshness::new(max_age, settings.lists, settings.access_check, settings.stale_if_error(registry));
        let absent = settings.absent(max_age);
        key.credential = inner.client.credential(registry, repository).await;
        let key = Arc::new(key);
        if let Some(answer) = self.kept_page(&key, absent, |age| freshness.allows(age)).await {
            return answer;
        }
        let way = self.way(settings.lists.min(settings.access_check), max_age);
        let read = |call: Arc<CallContext>| {
            let (reads, key) = (self.clone(), Arc::clone(&key));
            async move { reads.refresh_page(&key, way, &call).await }.boxed()
        };
        let (registry, repository) = key.place();
        let refusal = || inner.client.pause(registry, repository);
        let join = Join::Since(freshness.allowed());
        let (outcome, _) = inner.lists.join(&(Arc::clone(&key), way), join, call, refusal, read).await;
        match outcome {
            Ok(read) => Ok(read.answer()),
            Err(error) if is_no_response(&error) => {
                match self.kept_page(&key, absent, |age| freshness.allows_if_error(age)).await {
                    Some(Ok(answer)) => Ok(Answer { source: Source::Stale, ..answer }),
                    Some(Err(_)) | None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn kept_page(
        &self,
        key: &Arc<PageKey>,
        absent: Freshness,
        allows: impl Fn(Duration) -> bool,
    ) -> Option<Result<Answer<Arc<Page>>, RexError>> {
        let (state, asked) = self.0.documents.page(key).await?;
        let age = asked.elapsed();
        match state {
            PageState::Absent(error) => absent.allows(age).then(|| Err((*error).clone())),
            PageState::Present { page, .. } => {
                allows(age).then(|| Ok(Answer { value: page, source: Source::Hit, age }))
            }
        }
    }

    /// Asks the registry, unless another replica has asked it: whether the page has changed if it gave an entity tag, else for
    /// the page.
    async fn refresh_page(
        &self,
        key: &Arc<PageKey>,
        way: Way,
        call: &CallContext,
    ) -> Result<Asked<Arc<Page>>, RexError> {
        let shared = self.0.shared.as_ref().filter(|_| way == Way::Replicas);
        // The other replicas wait until the result is shared.
        let _lease = match shared {
            Some(shared) => match shared.page_turn(key, || self.taken_page(shared, key).boxed()).await {
                Turn::Taken(outcome) => return outcome,
                Turn::Own(lease) => lease,
            },
            None => None,
        };
        let asked = Instant::now();
        let kept = match self.0.documents.page(key).await {
            Some((PageState::Present { page, version: Some(version) }, _)) => Some((page, version)),
            _ => None,
        };
        let outcome = self.fetch_page(key, kept, call).await;
        let (documents, settings) = (&self.0.documents, &self.0.settings);
        match &outcome {
            Ok((page, _, version)) => {
                let state = PageState::Present { page: Arc::clone(page), version: version.clone() };
                if let Some(shared) = shared {
                    shared.put_page(key, &state, asked, settings.lists).await;
                }
                documents.keep_page(key, state, asked).await;
            }
            Err(error @ RexError::NotFound { .. }) => {
                if let Some(shared) = shared {
                    let state = PageState::Absent(Arc::new(error.clone()));
                    shared.put_page(key, &state, asked, settings.absent).await;
                }
                documents.keep_page_absence(key, error, asked, settings.absent).await;
            }
            Err(RexError::Authentication { .. }) => {
                documents.forget_page(key).await;
                if let Some(shared) = shared {
                    shared.forget_page(key).await;
                }
            }
            Err(_) => {}
        }
        outcome.map(|(value, source, _)| Asked { value, source, asked })
    }

    /// What another replica has read, if it is new enough for every call that lets replicas answer.
    async fn taken_page(
        &self,
        shared: &Shared,
        key: &Arc<PageKey>,
    ) -> Option<Result<Asked<Arc<Page>>, RexError>> {
        let (state, asked) = shared.page(key).await?;
        let (age, settings) = (asked.elapsed(), &self.0.settings);
        let taken = match &state {
            PageState::Absent(error) => settings.absent(None).allows(age).then(|| Err((**error).clone())),
            PageState::Present { page, .. } => (age <= settings.lists.min(settings.access_check))
                .then(|| Ok(Asked { value: Arc::clone(page), source: Source::Hit, asked })),
        };
        if taken.is_some() {
            // A page that this replica has fetched itself, and its version, stay until then.
            self.0.documents.keep_page(key, state, asked).await;
        }
        taken
    }

    async fn fetch_page(
        &self,
        key: &PageKey,
        kept: Option<(Arc<Page>, PageVersion)>,
        call: &CallContext,
    ) -> Result<(Arc<Page>, Source, Option<PageVersion>), RexError> {
        let unless = kept.as_ref().map(|(_, version)| version);
        match (self.0.client.list(&key.request, unless, call).await?, kept) {
            (Some((page, version)), _) => Ok((Arc::new(page), Source::Miss, version)),
            (None, Some((page, version))) => Ok((page, Source::Revalidated, Some(version))),
            (None, None) => {
                let problem = "status 304 to a request without a condition".to_owned();
                Err(RexError::Validation { at: key.at(), problem })
            }
        }
    }
}
