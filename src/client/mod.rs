//! The Distribution API, one operation a file. Knows nothing of gRPC.
//!
//! A [`Client`] holds an `Upstream` for each registry that it may reach. An operation takes its URL from `endpoint`, sends
//! its request through the upstream, and checks that the response is what it asked for.
//!
//! | file | what it does |
//! |---|---|
//! | `ping`, `manifest`, `page`, `blob` | the operations |
//! | `endpoint`, `exchange` | URLs, and what the requests of all operations have in common |
//! | `accept` | the `Accept` header of a manifest request |
//! | `names`, `link` | the names in a page, and the link to the next one |
//! | `page_token`, `page_query` | page tokens, and which queries they may carry |
//! | `content_range` | the `Content-Range` of a part of a blob |
//! | `unlisted_registries` | the registries that the configuration does not list: at most 64 in use |

use std::{collections::HashMap, fmt, sync::Arc};

use self::unlisted_registries::UnlistedRegistries;
use crate::{
    error::RexError,
    oci::{Registry, Repository},
    upstream::Upstream,
};

mod accept;
mod blob;
mod content_range;
mod endpoint;
mod exchange;
mod link;
mod manifest;
mod names;
mod page;
mod page_query;
mod page_token;
mod ping;
mod unlisted_registries;

pub use crate::{
    auth::{AuthScheme, CredentialId, CredentialSource},
    http::{
        BudgetedRequest, CallContext, ClientCertificate, FleetPermit, FleetSettings, Proxy, RequestCount,
        Settings as HttpSettings, SetupError, Share, SharedBudget, SharedPauses, egress::Origin,
    },
    upstream::Settings,
};
pub use accept::Accept;
pub use blob::{Blob, BlobHead, BlobRange};
pub use exchange::{Conditional, ETag};
pub use manifest::{Document, MakeView, Manifest, ManifestHead, check_size};
pub use page::{ConditionalPage, Page, PageRequest, PageVersion};
pub use page_token::PageToken;
pub use ping::PingResponse;
pub use unlisted_registries::Unlisted;

/// Limits on what a registry may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The maximum bytes of a manifest.
    pub manifest_bytes: usize,
    /// The maximum bytes of a page of a list.
    pub list_page_bytes: usize,
    /// The maximum pages of a list.
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Listing {
    /// The repositories of a registry.
    Catalog(Registry),
    /// The tags of a repository.
    Tags(Target),
}

impl Listing {
    /// The registry, and the repository if the list is one of its tags.
    #[must_use]
    pub fn place(&self) -> (&Registry, Option<&Repository>) {
        match self {
            Self::Catalog(registry) => (registry, None),
            Self::Tags(target) => (&target.registry, Some(&target.repository)),
        }
    }
}

/// A client of the OCI Distribution API for a set of registries.
pub struct Client {
    listed: HashMap<Registry, Arc<Upstream>>,
    unlisted: UnlistedRegistries,
    limits: Limits,
}

impl Client {
    /// Sets up every listed registry. The error names all that cannot be set up.
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
        Ok(Self { listed: upstreams, unlisted: UnlistedRegistries::new(unlisted), limits })
    }

    /// The identity of the credential with which a repository, or the registry as a whole, is read. `None` is anonymous.
    pub async fn credential(
        &self,
        registry: &Registry,
        repository: Option<&Repository>,
    ) -> Option<CredentialId> {
        // Unlisted registries have no credentials.
        self.listed.get(registry)?.credential(repository).await
    }

    /// The URL of a registry; `None` if it may not be read.
    pub async fn base_url(&self, registry: &Registry) -> Option<String> {
        self.upstream(registry).await.ok().map(|upstream| upstream.base().to_string())
    }

    /// The error of a call whose time ends while the registry has asked for a pause; `None` if it has not.
    pub fn pause(&self, registry: &Registry, repository: Option<&Repository>) -> Option<RexError> {
        self.listed.get(registry)?.pause(repository)
    }

    async fn upstream(&self, registry: &Registry) -> Result<Arc<Upstream>, RexError> {
        match self.listed.get(registry) {
            Some(upstream) => Ok(Arc::clone(upstream)),
            None => self.unlisted.get(registry).await,
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("listed", &self.listed.keys()).finish_non_exhaustive()
    }
}
