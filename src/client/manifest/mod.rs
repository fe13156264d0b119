//! Manifests and indexes: OCI Distribution Specification, "Pulling manifests".
//!
//! A digest covers exact bytes, so the bytes are kept unchanged and the digest is always computed from them. What the
//! response says about itself – `Docker-Content-Digest`, `Content-Type`, `mediaType` – is checked, never trusted.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use oci_spec::image::Descriptor;

use self::claims::{Claims, Declared};
use super::{
    Client, Target,
    accept::Accept,
    endpoint,
    exchange::{Conditional, ETag, expect_success, get},
};
use crate::{
    auth::Scope,
    error::{At, Missing, RexError},
    http::CallContext,
    oci::{Digest, Platform, Reference},
};

mod claims;
mod document;

pub use document::{Document, Manifest};

/// What a registry says about a manifest without sending it.
#[derive(Debug, Clone)]
pub struct ManifestHead {
    /// The digest; `None` if the registry does not say it.
    pub digest: Option<Digest>,
    /// The media type; `None` if the registry does not say it.
    pub media_type: Option<String>,
    /// The entity tag.
    pub etag: Option<ETag>,
}

/// What makes a view of a manifest. Parsed documents are large, so the view is made where the document is parsed, and only
/// the view is kept.
pub type MakeView<T> = fn(Manifest) -> T;

impl Client {
    /// Fetches what a reference names (end-3), and returns the `view` of it. With `unless`, the registry may answer that it has
    /// not changed since it had this entity tag.
    pub async fn manifest<T: Send + 'static>(
        &self,
        target: &Target,
        reference: &Reference,
        accept: &Accept,
        unless: Option<&ETag>,
        call: &CallContext,
        view: MakeView<T>,
    ) -> Result<Conditional<T>, RexError> {
        let upstream = self.upstream(&target.registry).await?;
        let url = endpoint::manifest(&upstream.base(), &target.repository, reference);
        let mut headers = accepting(accept);
        headers.extend(unless.map(ETag::if_none_match));
        let request = get(url, headers, upstream.at(Some(&target.repository)), call);
        let response = upstream.send(&request, &Scope::Pull(target.repository.clone())).await?;
        if unless.is_some() && response.status() == http::StatusCode::NOT_MODIFIED {
            return Ok(Conditional::NotModified);
        }
        let response = expect_success(response, Missing::Manifest, reference.as_str()).await?;
        let declared = Declared {
            digest: response.header(endpoint::CONTENT_DIGEST).map(str::to_owned),
            content_type: response.content_type(),
        };
        let (claims, etag) = (Claims(response.at()), ETag::of(response.headers()));
        let content = response.read("manifest", self.limits.manifest_bytes).await?;
        let (bytes, requested, accept) = (content.len(), reference.clone(), accept.clone());
        let work = move || claims.verified(content, &requested, declared, &accept).map(view);
        let view = upstream.work_on_body(bytes, call, work).await??;
        Ok(Conditional::Modified(view, etag))
    }

    /// Asks what a reference names, without fetching it (end-3, HEAD). `None` if the registry answers with neither a success nor
    /// 404: it may not offer HEAD.
    pub async fn manifest_head(
        &self,
        target: &Target,
        reference: &Reference,
        accept: &Accept,
        call: &CallContext,
    ) -> Result<Option<ManifestHead>, RexError> {
        let upstream = self.upstream(&target.registry).await?;
        let url = endpoint::manifest(&upstream.base(), &target.repository, reference);
        let mut request = get(url, accepting(accept), upstream.at(Some(&target.repository)), call);
        request.method = Method::HEAD;
        let response = upstream.send(&request, &Scope::Pull(target.repository.clone())).await?;
        if response.status() == http::StatusCode::NOT_FOUND {
            let name = reference.as_str().to_owned();
            return Err(RexError::NotFound { at: response.at(), missing: Missing::Manifest, name });
        }
        if response.status() != http::StatusCode::OK {
            return Ok(None);
        }
        Ok(Some(ManifestHead {
            digest: response.header(endpoint::CONTENT_DIGEST).and_then(|digest| digest.parse().ok()),
            media_type: response.content_type(),
            etag: ETag::of(response.headers()),
        }))
    }

    /// Makes the view of a manifest that was kept elsewhere, after the same checks as those of a response.
    pub async fn kept_manifest<T: Send + 'static>(
        &self,
        target: &Target,
        accept: &Accept,
        (digest, media_type, content): (&Digest, &str, Bytes),
        call: &CallContext,
        view: MakeView<T>,
    ) -> Result<T, RexError> {
        let upstream = self.upstream(&target.registry).await?;
        let claims = Claims(upstream.at(Some(&target.repository)));
        let declared = Declared { digest: None, content_type: Some(media_type.to_owned()) };
        let (bytes, reference) = (content.len(), Reference::Digest(digest.clone()));
        let accept = accept.clone();
        let work = move || claims.verified(content, &reference, declared, &accept).map(view);
        upstream.work_on_body(bytes, call, work).await?
    }

    /// The entry of an index that runs on a platform; `None` if the content is not an index. `named` is the reference that the
    /// caller named, for the error.
    pub async fn pick(
        &self,
        target: &Target,
        index: &Descriptor,
        content: Bytes,
        platform: &Platform,
        named: &Reference,
        call: &CallContext,
    ) -> Result<Option<Descriptor>, RexError> {
        let upstream = self.upstream(&target.registry).await?;
        let at = upstream.at(Some(&target.repository));
        let (bytes, media_type) = (content.len(), index.media_type().to_string());
        let (platform, named) = (platform.clone(), named.clone());
        let work = move || {
            let Document::Index(index) = Claims(at.clone()).parse(&content, &media_type)? else {
                return Ok(None);
            };
            let not_found = || RexError::NotFound {
                at,
                missing: Missing::Manifest,
                name: format!("for platform {platform} in the index {named}"),
            };
            platform.pick(index.manifests()).cloned().map(Some).ok_or_else(not_found)
        };
        upstream.work_on_body(bytes, call, work).await?
    }
}

/// Checks that a fetched manifest has the size that the index which names it gives.
pub fn check_size(at: At, fetched: &Descriptor, entry: &Descriptor) -> Result<(), RexError> {
    if fetched.size() == entry.size() {
        return Ok(());
    }
    let (digest, expected, bytes) = (entry.digest(), entry.size(), fetched.size());
    let problem = format!("the index gives {digest} a size of {expected} bytes, but it has {bytes}");
    Err(RexError::Integrity { at, problem })
}

fn accepting(accept: &Accept) -> HeaderMap {
    let value: HeaderValue = accept.value().clone();
    HeaderMap::from_iter([(header::ACCEPT, value)])
}
