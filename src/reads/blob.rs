//! Blobs.

use super::{Reads, documents::ManifestView};
use crate::{
    client::{Blob, BlobRange, CallContext, Target},
    error::RexError,
    oci::Digest,
};

impl<V: ManifestView> Reads<V> {
    /// Opens a blob.
    pub async fn blob(
        &self,
        target: &Target,
        digest: &Digest,
        range: BlobRange,
        call: CallContext,
    ) -> Result<Blob, RexError> {
        self.0.client.blob(target, digest, range, call).await
    }
}
