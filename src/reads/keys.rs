//! The keys under which something is read once and kept: everything that can change the response.

use crate::{
    client::{Accept, CredentialId, PageRequest, Target},
    error::At,
    oci::{Algorithm, Digest, Reference, Registry, Repository, Verifier},
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
    /// The bytes of its texts.
    pub(super) fn bytes(&self) -> usize {
        bytes_of(&self.target) + self.reference.as_str().len() + self.accept.value().len()
    }

    /// The place, for errors.
    pub(super) fn at(&self) -> At {
        at(&self.target.registry, Some(&self.target.repository))
    }
}

/// Everything that can change the response to a read of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct BlobKey {
    pub(super) target: Target,
    pub(super) digest: Digest,
    pub(super) credential: Option<CredentialId>,
}

impl BlobKey {
    /// The name under which a content store keeps the blob. Each registry has its own blobs: a hostile one could claim to have
    /// any digest, and so open what another one has sent.
    pub(super) fn stored_name(&self) -> Digest {
        let name = format!("{} {}", self.target.registry, self.digest);
        Verifier::digest_of(Algorithm::Sha256, name.as_bytes())
    }

    /// The bytes of its texts.
    pub(super) fn bytes(&self) -> usize {
        bytes_of(&self.target) + self.digest.as_str().len()
    }

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
    /// The bytes of its texts.
    pub(super) fn bytes(&self) -> usize {
        let (registry, repository) = self.place();
        let token = self.request.token.as_ref().map(|token| token.encode().len());
        registry.as_str().len()
            + repository.map(|repository| repository.as_str().len()).unwrap_or_default()
            + token.unwrap_or_default()
    }

    /// The registry, and the repository if the list is one of its tags.
    pub(super) fn place(&self) -> (&Registry, Option<&Repository>) {
        self.request.listing.place()
    }

    /// The place, for errors.
    pub(super) fn at(&self) -> At {
        let (registry, repository) = self.place();
        at(registry, repository)
    }
}

fn bytes_of(target: &Target) -> usize {
    target.registry.as_str().len() + target.repository.as_str().len()
}

/// A place, for errors.
pub(super) fn at(registry: &Registry, repository: Option<&Repository>) -> At {
    let repository = repository.map(ToString::to_string);
    At { registry: registry.to_string(), repository, ..At::default() }
}
