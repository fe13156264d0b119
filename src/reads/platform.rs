//! A manifest, or the entry of an index that runs on a platform: OCI Image Specification, image-index.md.

use std::{sync::Arc, time::Duration};

use oci_spec::image::Descriptor;

use super::{
    Reads,
    answer::Answer,
    documents::{Kept, ManifestView},
    keys,
};
use crate::{
    client::{Accept, CallContext, Target, check_size},
    error::RexError,
    oci::{Digest, Platform, Reference},
};

/// Indexes may be nested, which is rare. Deeper nesting than this is refused.
const MAX_DEPTH: usize = 4;

/// Options of a manifest request.
#[derive(Debug, Clone)]
pub struct ManifestOptions {
    /// The media types to accept.
    pub accept: Accept,
    /// The platform whose entry of an index to return instead of the index.
    pub platform: Option<Platform>,
    /// How old the response may be; `None` leaves it to the configuration.
    pub max_age: Option<Duration>,
}

/// A manifest that was read.
#[derive(Debug, Clone)]
pub struct ManifestRead<V> {
    /// The manifest.
    pub manifest: Kept<V>,
    /// The index that the reference named, when `platform` picked the manifest from it.
    pub index: Option<Arc<Descriptor>>,
}

impl<V: ManifestView> Reads<V> {
    /// Reads what a reference names, or the entry of it that runs on a platform.
    pub async fn manifest(
        &self,
        target: &Target,
        reference: &Reference,
        options: &ManifestOptions,
        call: &CallContext,
    ) -> Result<Answer<ManifestRead<V>>, RexError> {
        let ManifestOptions { accept, platform, max_age } = options;
        let mut answer = self.one_manifest(target, reference, accept, *max_age, call).await?;
        let mut index = None;
        let Some(platform) = platform else {
            return Ok(answer.map(|manifest| ManifestRead { manifest, index }));
        };
        let client = &self.0.client;
        for _ in 0..=MAX_DEPTH {
            let Kept { descriptor, view } = &answer.value;
            let picked = client.pick(target, descriptor, view.content(), platform, reference, call).await?;
            let Some(entry) = picked else {
                return Ok(answer.map(|manifest| ManifestRead { manifest, index }));
            };
            index.get_or_insert_with(|| Arc::clone(descriptor));
            let digest: Digest = entry
                .digest()
                .as_ref()
                .parse()
                .map_err(|problem| invalid(target, format!("a digest in the index {problem}")))?;
            let next = self.one_manifest(target, &Reference::Digest(digest), accept, *max_age, call).await?;
            check_size(keys::at(&target.registry, Some(&target.repository)), &next.value.descriptor, &entry)?;
            answer = Answer {
                value: next.value,
                source: next.source.max(answer.source),
                age: next.age.max(answer.age),
            };
        }
        Err(invalid(target, "indexes are nested too deep".to_owned()))
    }
}

fn invalid(target: &Target, problem: String) -> RexError {
    RexError::Validation { at: keys::at(&target.registry, Some(&target.repository)), problem }
}
