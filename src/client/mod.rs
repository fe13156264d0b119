//! The Distribution API, one operation a file. Knows nothing of gRPC.
//!
//! A [`Client`] holds an `Upstream` for each registry that it may reach. An operation takes its URL from `endpoint`, sends
//! its request through the upstream, and checks that the response is what it asked for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use moka::sync::Cache;

use crate::{
    error::{At, RexError},
    oci::{Registry, Repository},
    upstream::Upstream,
};

mod blob;
mod content_range;
mod endpoint;
mod exchange;
mod link;
mod manifest;
mod page;
mod page_query;
mod page_token;
mod ping;

pub use crate::{
    auth::{AuthScheme, CredentialSource},
    http::{
        CallContext, ClientCertificate, Proxy, Settings as HttpSettings, SetupError, Share, egress::Origin,
    },
    upstream::Settings,
};
pub use blob::{Blob, BlobRange};
pub use manifest::{Accept, Document, Manifest, ManifestOptions};
pub use page::{Page, PageRequest};
pub use page_token::PageToken;
pub use ping::PingResponse;

/// The most unlisted registries that stay connected. Each takes some sockets and a few MiB.
const MAX_UNLISTED: u64 = 64;

/// An unlisted registry that is not used for this long is dropped, with its connections and tokens.
const FORGET_UNLISTED: Duration = Duration::from_secs(10 * 60);

/// Makes the settings of a registry that the configuration does not list.
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

/// A client of the OCI Distribution API for a set of registries.
pub struct Client {
    listed: HashMap<Registry, Arc<Upstream>>,
    unlisted: Unlisted,
    kept: Cache<Registry, Arc<Upstream>>,
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
        let kept = Cache::builder().max_capacity(MAX_UNLISTED).time_to_idle(FORGET_UNLISTED).build();
        Ok(Self { listed: upstreams, unlisted, kept, limits })
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
