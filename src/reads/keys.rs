//! The keys under which something is read once and kept: everything that can change the response.

use crate::{
    client::{Accept, CredentialId, Listing, PageRequest, Target},
    error::At,
    oci::{Reference, Registry, Repository},
};

/// Everything that can change the response to a read of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ManifestKey {
    pub(super) target: Target,
    pub(super) reference: Reference,
    pub(super) accept: Accept,
    pub(super) credential: Option<CredentialId>,
}

impl ManifestKey {
    /// The place, for errors.
    pub(super) fn at(&self) -> At {
        at(&self.target.registry, Some(&self.target.repository))
    }
}

/// Everything that can change a page.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PageKey {
    pub(super) request: PageRequest,
    pub(super) credential: Option<CredentialId>,
}

impl PageKey {
    /// The registry, and the repository if the list is one of its tags.
    pub(super) fn place(&self) -> (&Registry, Option<&Repository>) {
        match &self.request.listing {
            Listing::Catalog(registry) => (registry, None),
            Listing::Tags(target) => (&target.registry, Some(&target.repository)),
        }
    }

    /// The place, for errors.
    pub(super) fn at(&self) -> At {
        let (registry, repository) = self.place();
        at(registry, repository)
    }
}

/// A place, for errors.
pub(super) fn at(registry: &Registry, repository: Option<&Repository>) -> At {
    let repository = repository.map(ToString::to_string);
    At { registry: registry.to_string(), repository, ..At::default() }
}
