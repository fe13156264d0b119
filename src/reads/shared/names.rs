//! The names of what is in the engine: everything that can change it, as a JSON array, so that no two things have one name.
//!
//! The engine's own keys are hashes of these names.

use serde_json::json;

use crate::{
    client::{Listing, PageRequest},
    oci::{Digest, Registry},
    reads::keys::{BlobKey, ManifestKey},
};

/// Which registry a name is about. Two fleets can give one name to different registries, so its URL belongs to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) registry: &'a Registry,
    pub(super) url: &'a str,
    /// The stretched identity of the credential; `None` is anonymous.
    pub(super) credential: Option<&'a str>,
}

impl Place<'_> {
    /// What a reference named.
    pub(super) fn manifest(self, key: &ManifestKey) -> String {
        let ManifestKey { target, reference, accept, .. } = key;
        let (kind, credential) = ("manifest", self.credential);
        let repository = target.repository.as_str();
        let parts = json!([repository, reference.as_str(), accept.value().as_bytes()]);
        json!([kind, self.registry.as_str(), self.url, credential, parts]).to_string()
    }

    /// What is known of a blob.
    pub(super) fn blob(self, key: &BlobKey) -> String {
        let BlobKey { target, digest, .. } = key;
        let parts = json!([target.repository.as_str(), digest.as_str()]);
        json!(["blob", self.registry.as_str(), self.url, self.credential, parts]).to_string()
    }

    /// A page of a list.
    pub(super) fn page(self, request: &PageRequest) -> String {
        let repository = match &request.listing {
            Listing::Catalog(_) => None,
            Listing::Tags(target) => Some(target.repository.as_str()),
        };
        let token = request.token.as_ref().map(|token| token.encode());
        let parts = json!([repository, request.size, token]);
        json!(["page", self.registry.as_str(), self.url, self.credential, parts]).to_string()
    }

    /// The content of a digest. It is the same for all who may read it.
    pub(super) fn content(self, digest: &Digest) -> String {
        json!(["content", self.registry.as_str(), self.url, digest.as_str()]).to_string()
    }

    /// The fetch of a blob into a store that all replicas have.
    pub(super) fn fill(self, digest: &Digest) -> String {
        json!(["fill", self.registry.as_str(), self.url, digest.as_str()]).to_string()
    }
}
