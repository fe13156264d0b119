//! Lists, a page at a time: tags (OCI Distribution Specification, "Listing Tags") and the catalog (distribution's HTTP API
//! V2, "Catalog").
//!
//! The client follows `Link` instead of computing `last`, because Quay, ECR and others use opaque cursors. A page is at most
//! one page of the registry. When the registry's page is larger than requested, the page is a window of it.

use http::{HeaderMap, HeaderValue, header};

use super::{
    Client, Listing, endpoint,
    exchange::{Conditional, ETag, expect_success, get, named},
    link::{self, Next},
    names::{self, Names, Window},
    page_query::{self, MAX_PAGE_SIZE},
    page_token::PageToken,
};
use crate::{
    auth::Scope,
    error::{At, Missing, RexError},
    http::{CallContext, Response},
    upstream::Upstream,
};

/// The page size after a registry refused `n`. Quay once refused more than this.
const CAUTIOUS_PAGE_SIZE: usize = 100;

/// What a caller can do about a token that is refused although it is not damaged.
const BEGIN_AGAIN: &str = "begin the list again, without a token";

/// The page to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PageRequest {
    /// The list.
    pub listing: Listing,
    /// The maximum number of entries, from 1 to 1000.
    pub size: usize,
    /// Where to continue; `None` begins the list.
    pub token: Option<PageToken>,
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Names, in the registry's order.
    pub entries: Vec<String>,
    /// Where to continue; `None` at the end of the list.
    pub next: Option<PageToken>,
}

/// Which response of the registry a page was made of, to ask later whether it has changed. An entity tag is one of a URL, and
/// the first page may be requested with different queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageVersion {
    query: Option<String>,
    etag: ETag,
}

/// A page, or that the one of this version has not changed.
pub type ConditionalPage = Result<Option<(Page, Option<PageVersion>)>, RexError>;

impl Client {
    /// Fetches a page of a list. `None` if the registry says that the page of the version `unless` has not changed.
    pub async fn list(
        &self,
        request: &PageRequest,
        unless: Option<&PageVersion>,
        call: &CallContext,
    ) -> ConditionalPage {
        let registry = match &request.listing {
            Listing::Catalog(registry) => registry,
            Listing::Tags(target) => &target.registry,
        };
        let upstream = self.upstream(registry).await?;
        let scope = match &request.listing {
            Listing::Catalog(registry) if registry.is_docker_hub() => {
                let at = At { registry: registry.to_string(), ..At::default() };
                return Err(RexError::Unsupported { at, problem: "Docker Hub has no catalog".to_owned() });
            }
            Listing::Catalog(_) => Scope::Catalog,
            Listing::Tags(target) => Scope::Pull(target.repository.clone()),
        };
        let walk = Walk { client: self, upstream: &upstream, request, scope: &scope, unless, call };
        let size = request.size.clamp(1, MAX_PAGE_SIZE);
        match &request.token {
            Some(token) => {
                let query = token.query.as_deref();
                // The token was decoded before the registry was known, and the registry decides which parameters it may have.
                page_query::check(query.unwrap_or_default(), upstream.page_parameters()).map_err(
                    |problem| RexError::invalid("page_token", format!("{problem}; {BEGIN_AGAIN}")),
                )?;
                walk.page(query, token.clone(), size).await
            }
            None => walk.first_page(size).await,
        }
    }
}

struct Walk<'a> {
    client: &'a Client,
    upstream: &'a Upstream,
    request: &'a PageRequest,
    scope: &'a Scope,
    unless: Option<&'a PageVersion>,
    call: &'a CallContext,
}

impl Walk<'_> {
    /// Requests `n` entries. If the registry refuses `n`, requests fewer, and then as many as the registry chooses.
    async fn first_page(&self, size: usize) -> ConditionalPage {
        let requested = format!("n={size}");
        let cautious = (size > CAUTIOUS_PAGE_SIZE).then(|| format!("n={CAUTIOUS_PAGE_SIZE}"));
        let queries = [Some(Some(requested)), cautious.map(Some), Some(None)];
        let mut refused = None;
        for query in queries.into_iter().flatten() {
            let start = PageToken::first(&self.request.listing, query.clone());
            match self.page(query.as_deref(), start, size).await {
                Err(error) if is_about_n(&error) => refused = Some(error),
                outcome => return outcome,
            }
        }
        Err(refused.unwrap_or_else(|| self.invalid("no page".to_owned())))
    }

    async fn page(&self, query: Option<&str>, from: PageToken, size: usize) -> ConditionalPage {
        if from.pages >= self.client.limits.max_pages {
            return Err(
                self.invalid(format!("the list has more than {} pages", self.client.limits.max_pages))
            );
        }
        let query = query.map(page_query::clamp_n);
        let unless = self.unless.filter(|version| version.query == query).map(|version| &version.etag);
        let Conditional::Modified(response, etag) = self.fetch(query.as_deref(), unless).await? else {
            return Ok(None);
        };
        let version = etag.map(|etag| PageVersion { query: query.clone(), etag });
        let next = link::next(response.headers());
        let names = self.names(response, Window { skip: from.skip, size }).await?;
        let last = names.last();
        if let Some(problem) = from.repeats(last) {
            return Err(self.invalid(problem.to_owned()));
        }
        let next = if names.count.saturating_sub(from.skip) > size {
            Some(from.further(size, query))
        } else {
            match next {
                Next::End => None,
                Next::Query(next) if Some(&next) != query.as_ref() => {
                    self.check_link(&next)?;
                    Some(from.following(next, last))
                }
                Next::Query(_) => {
                    return Err(self.invalid("the Link of a page points to that page".to_owned()));
                }
                Next::Unusable => {
                    return Err(self.invalid("the Link of a page cannot be followed".to_owned()));
                }
            }
        };
        Ok(Some((Page { entries: names.kept, next }, version)))
    }

    /// A token with this query would be refused, so this is an error: otherwise the list would end here silently.
    fn check_link(&self, query: &str) -> Result<(), RexError> {
        page_query::check(query, self.upstream.page_parameters())
            .map_err(|problem| self.invalid(format!("the Link of a page {problem}")))
    }

    async fn fetch(
        &self,
        query: Option<&str>,
        unless: Option<&ETag>,
    ) -> Result<Conditional<Response>, RexError> {
        let base = self.upstream.base();
        let url = match &self.request.listing {
            Listing::Catalog(_) => endpoint::catalog(&base, query),
            Listing::Tags(target) => endpoint::tags(&base, &target.repository, query),
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.extend(unless.map(ETag::if_none_match));
        let at = self.upstream.at(self.scope.repository());
        let response = self.upstream.send(&get(url, headers, at, self.call), self.scope).await?;
        if unless.is_some() && response.status().as_u16() == 304 {
            return Ok(Conditional::NotModified);
        }
        let no_catalog =
            matches!(self.request.listing, Listing::Catalog(_)) && response.status().as_u16() == 404;
        if no_catalog {
            let problem = "the registry has no catalog".to_owned();
            return Err(RexError::Unsupported { at: response.at(), problem });
        }
        let response = expect_success(response, Missing::Repository, "").await?;
        let etag = ETag::of(response.headers());
        Ok(Conditional::Modified(response, etag))
    }

    async fn names(&self, response: Response, window: Window) -> Result<Names, RexError> {
        let content_type = response.content_type();
        let not_a_list = response.invalid(format!("{} instead of a list", named(content_type.as_deref())));
        let body = response.read("list page", self.client.limits.list_page_bytes).await?;
        let (bytes, listing) = (body.len(), self.request.listing.clone());
        let read = move || names::read(&body, &listing, window);
        self.upstream.work_on_body(bytes, self.call, read).await?.ok_or(not_a_list)
    }

    fn invalid(&self, problem: String) -> RexError {
        RexError::Validation { at: self.upstream.at(self.scope.repository()), problem }
    }
}

/// Whether a registry may have refused the page size: Quay and others respond with 400 or 413.
fn is_about_n(error: &RexError) -> bool {
    matches!(error, RexError::Validation { at, .. } if matches!(at.http_status, Some(400 | 413)))
}
