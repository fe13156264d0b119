//! The Distribution API, one operation a file. Knows nothing of gRPC.
//!
//! A [`Client`] holds one connection set for each registry it may reach. An operation asks `endpoint` for the URL and
//! the scope, sends through the transport layer, and makes sure that what comes back is what was asked for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::{HeaderMap, Method};
use moka::sync::Cache;
use tokio::time::Instant;

use crate::{
    error::{At, Missing, RexError},
    oci::{DocumentKind, Registry, Repository},
    transport::{Answer, Protocol, Request, Scope, Upstream},
};

mod blob;
mod content_range;
mod endpoint;
mod link;
mod manifest;
mod page;
mod page_token;

pub use crate::transport::{
    AuthScheme, ClientCertificate, CredentialSource, Proxy, Settings, SetupError, egress::Origin,
};
pub use blob::{Blob, BlobRange};
pub use manifest::{Accept, Document, Manifest, ManifestOptions};
pub use page::{Page, PageRequest};
pub use page_token::PageToken;

/// Registries that nobody listed and that are kept connected; each costs some sockets and a few MiB.
const MAX_UNLISTED: u64 = 64;

/// Unlisted registries that nobody asked for this long are forgotten, their tokens included.
const FORGET_UNLISTED: Duration = Duration::from_secs(10 * 60);

/// Makes the settings of a registry that nobody listed.
pub type Unlisted = Box<dyn Fn(&Registry) -> Option<Settings> + Send + Sync>;

/// Limits on what a registry may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most bytes of a manifest.
    pub manifest_bytes: usize,
    /// The most bytes of a page of a list.
    pub list_page_bytes: usize,
    /// The most pages in a chain of them.
    pub max_pages: u32,
}

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The registry.
    pub registry: Registry,
    /// The repository within it.
    pub repository: Repository,
}

/// A list of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// The repositories of a registry.
    Catalog(Registry),
    /// The tags of a repository.
    Tags(Target),
}

/// What `GET /v2/` told.
#[derive(Debug, Clone)]
pub struct Pong {
    /// `Docker-Distribution-API-Version`, as it was sent.
    pub api_version: String,
    /// What the registry asked for before it answered.
    pub scheme: AuthScheme,
    /// Whether the registry then took what it was shown. A registry that asks for tokens is well without, too: who has no
    /// credential for the registry as a whole learns no more.
    pub signed_in: bool,
    /// How long it took to answer.
    pub latency: Duration,
}

/// A client of the OCI Distribution API for a set of registries.
pub struct Client {
    listed: HashMap<Registry, Arc<Upstream>>,
    unlisted: Unlisted,
    kept: Cache<Registry, Arc<Upstream>>,
    limits: Limits,
}

impl Client {
    /// Sets up every listed registry; all that cannot be set up are reported.
    pub fn new(
        listed: impl IntoIterator<Item = Settings>,
        unlisted: Unlisted,
        limits: Limits,
    ) -> Result<Self, Vec<SetupError>> {
        let (mut upstreams, mut errors) = (HashMap::new(), Vec::new());
        for settings in listed {
            match Upstream::new(settings) {
                Ok(upstream) => drop(upstreams.insert(upstream.registry().clone(), Arc::new(upstream))),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let kept = Cache::builder().max_capacity(MAX_UNLISTED).time_to_idle(FORGET_UNLISTED).build();
        Ok(Self { listed: upstreams, unlisted, kept, limits })
    }

    /// Asks whether a registry answers and accepts the sign-in (end-1).
    pub async fn ping(&self, registry: &Registry, deadline: Option<Instant>) -> Result<Pong, RexError> {
        let upstream = self.upstream(registry)?;
        let request = get(upstream.base(), &Scope::Ping, HeaderMap::new(), deadline);
        let answer = upstream.send(&request).await?;
        if answer.status().as_u16() == 404 {
            // "end-1": whoever does not implement it does not implement the API.
            let problem = "/v2/ does not exist: this is not a registry's API".to_owned();
            return Err(RexError::Unsupported { at: answer.at(), problem });
        }
        let signed_out = answer.status().as_u16() == 401;
        if !answer.status().is_success() && !signed_out {
            return Err(answer.rejection().await.into_error(Missing::Repository, "/v2/"));
        }
        if is_html(&answer) {
            return Err(answer.invalid("/v2/ answers with text/html: this is not a registry's API"));
        }
        let api_version = answer.header(endpoint::API_VERSION).unwrap_or_default().chars().take(64).collect();
        let (scheme, signed_in) = (answer.scheme(), !signed_out && answer.scheme() != AuthScheme::None);
        Ok(Pong { api_version, scheme, signed_in, latency: answer.elapsed() })
    }

    fn upstream(&self, registry: &Registry) -> Result<Arc<Upstream>, RexError> {
        if let Some(upstream) = self.listed.get(registry) {
            return Ok(Arc::clone(upstream));
        }
        let refuse = |problem: String| RexError::RegistryNotAllowed {
            at: At { registry: registry.to_string(), ..At::default() },
            problem,
        };
        let made = self.kept.try_get_with(registry.clone(), || {
            let settings = (self.unlisted)(registry).ok_or_else(|| "it is not listed".to_owned())?;
            Upstream::new(settings).map(Arc::new).map_err(|error| error.problem)
        });
        made.map_err(|problem: Arc<String>| refuse((*problem).clone()))
    }
}

/// A GET of the API.
fn get(url: url::Url, scope: &Scope, headers: HeaderMap, deadline: Option<Instant>) -> Request<'_> {
    Request { method: Method::GET, url, scope, headers, protocol: Protocol::Any, deadline }
}

/// Whether the answer is a page for people – a login, a proxy's error – whatever its status says.
fn is_html(answer: &Answer) -> bool {
    answer.content_type().is_some_and(|media_type| media_type == "text/html")
}

/// A success, or the error that the answer is.
async fn expect_success(answer: Answer, missing: Missing, name: &str) -> Result<Answer, RexError> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    Err(answer.rejection().await.into_error(missing, name))
}

/// A content type as an error may name it. One that nobody knows is the registry's own words, and may be anything.
fn named(content_type: Option<&str>) -> &str {
    match content_type {
        None => "no content type",
        Some(
            known @ ("text/html"
            | "text/plain"
            | "text/xml"
            | "application/json"
            | "application/problem+json"
            | "application/xml"
            | "application/octet-stream"),
        ) => known,
        Some(manifest) if DocumentKind::of(manifest) != DocumentKind::Other => manifest,
        Some(_) => "an unknown content type",
    }
}
