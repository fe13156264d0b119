//! One page of a list: from memory, confirmed by the registry, or fetched.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{
    Reads,
    answer::{Answer, Asked, Source},
    documents::{ManifestView, PageState},
    flight::Join,
    freshness::{Freshness, is_no_response},
    keys::PageKey,
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
        let read = |call: Arc<CallContext>| {
            let (reads, key) = (self.clone(), Arc::clone(&key));
            async move { reads.refresh_page(&key, &call).await }.boxed()
        };
        let (registry, repository) = key.place();
        let refusal = || inner.client.pause(registry, repository);
        let join = Join::Since(freshness.allowed());
        let (outcome, _) = inner.lists.join(&key, join, call, refusal, read).await;
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

    /// Asks the registry: whether the page has changed if it gave an entity tag, else for the page.
    async fn refresh_page(
        &self,
        key: &Arc<PageKey>,
        call: &CallContext,
    ) -> Result<Asked<Arc<Page>>, RexError> {
        let asked = Instant::now();
        let kept = match self.0.documents.page(key).await {
            Some((PageState::Present { page, version: Some(version) }, _)) => Some((page, version)),
            _ => None,
        };
        let outcome = self.fetch_page(key, kept, call).await;
        let documents = &self.0.documents;
        match &outcome {
            Ok((page, _, version)) => {
                let state = PageState::Present { page: Arc::clone(page), version: version.clone() };
                documents.keep_page(key, state, asked).await;
            }
            Err(error @ RexError::NotFound { .. }) => {
                documents.keep_page_absence(key, error, asked, self.0.settings.absent).await;
            }
            Err(RexError::Authentication { .. }) => documents.forget_page(key).await,
            Err(_) => {}
        }
        outcome.map(|(value, source, _)| Asked { value, source, asked })
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
