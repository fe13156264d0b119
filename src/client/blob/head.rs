//! What a registry says about a blob without sending it.

use std::sync::Arc;

use http::{Method, StatusCode};

use super::{BlobRange, open::content_length};
use crate::{
    client::{Client, Target},
    error::RexError,
    http::CallContext,
    oci::Digest,
};

/// What a registry says about a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobHead {
    /// The size in bytes; `None` if the registry does not say it.
    pub size: Option<u64>,
    /// The registry's `Content-Type`; `None` if it does not say it.
    pub media_type: Option<String>,
}

impl Client {
    /// Asks whether a repository has a blob (end-2, HEAD). `None` if the registry answers with anything but a success: then only
    /// a GET says what is wrong.
    pub async fn blob_head(
        &self,
        target: &Target,
        digest: &Digest,
        call: Arc<CallContext>,
    ) -> Result<Option<BlobHead>, RexError> {
        let blob = self.unopened_blob(target, digest, BlobRange::default(), call).await?;
        let response = blob.request(Method::HEAD, None).await?;
        Ok((response.status() == StatusCode::OK)
            .then(|| BlobHead { size: content_length(&response), media_type: response.content_type() }))
    }
}
