//! Converts between the API's messages and the domain types. A converted request is well-formed, and the policy allows it.

use std::{collections::HashMap, str::FromStr, time::Duration};

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use prost::Message as _;

use super::{deadline::Deadline, proto};
use crate::{
    client::{
        Accept, AuthScheme, BlobRange, CallContext, Document, Listing, Manifest, Page, PageRequest,
        PageToken, PingResponse, Share, Target,
    },
    error::RexError,
    memory::MemoryAccount,
    oci::{Digest, ParseError, Reference, Registry, Repository},
    policy::{Caller, Policy, Resource},
    reads::ManifestOptions,
    telemetry::CallRecord,
};

/// The default and the largest number of entries in a page (AIP-158).
const DEFAULT_PAGE_SIZE: usize = 100;
const MAX_PAGE_SIZE: usize = 1000;

/// Chunk sizes, in bytes, that a caller may choose.
const CHUNK_BYTES: std::ops::RangeInclusive<usize> = 4 * 1024..=1024 * 1024;

/// The default chunk size. A stream holds this much for a caller that does not read. Larger chunks were not faster (see
/// docs/performance.md).
const DEFAULT_CHUNK_BYTES: usize = 64 * 1024;

/// gRPC clients accept messages of 4 MiB by default. Part of that is needed for the response's other fields.
const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024 - 2048;

/// Parses a caller's requests, and checks them against the policy.
pub(super) struct Call<'a> {
    pub(super) policy: &'a Policy,
    pub(super) caller: Caller,
    pub(super) share: Share,
    /// Reserves memory for the caller at its peer.
    pub(super) memory: MemoryAccount,
}

impl Call<'_> {
    /// What the client is told about the call.
    pub(super) fn context(&self, deadline: Deadline, record: &CallRecord) -> CallContext {
        let context = CallContext::new(deadline.instant(), self.share, self.memory.clone());
        record.requests(context.requests());
        context
    }

    pub(super) fn ping(&self, request: &proto::PingRequest) -> Result<Registry, RexError> {
        self.registry(&request.registry, Resource::Ping)
    }

    /// The page, and how old it may be.
    pub(super) fn catalog(
        &self,
        request: &proto::ListCatalogRequest,
    ) -> Result<(PageRequest, Option<Duration>), RexError> {
        let listing = Listing::Catalog(self.registry(&request.registry, Resource::Catalog)?);
        let page = page_request(listing, request.page_size, &request.page_token)?;
        Ok((page, max_age(request.max_age.as_ref())?))
    }

    /// The page, and how old it may be.
    pub(super) fn tags(
        &self,
        request: &proto::ListTagsRequest,
    ) -> Result<(PageRequest, Option<Duration>), RexError> {
        let listing = Listing::Tags(self.target(&request.registry, &request.repository)?);
        let page = page_request(listing, request.page_size, &request.page_token)?;
        Ok((page, max_age(request.max_age.as_ref())?))
    }

    pub(super) fn manifest(
        &self,
        request: &proto::GetManifestRequest,
    ) -> Result<(Target, Reference, ManifestOptions), RexError> {
        let target = self.target(&request.registry, &request.repository)?;
        let reference = parse("reference", &request.reference)?;
        let platform = match request.platform.as_str() {
            "" => None,
            platform => Some(parse("platform", platform)?),
        };
        let accept = Accept::new(&request.accept_media_types)?;
        let max_age = max_age(request.max_age.as_ref())?;
        Ok((target, reference, ManifestOptions { accept, platform, max_age }))
    }

    /// Target, digest, range, and the size of chunks.
    pub(super) fn blob(
        &self,
        request: &proto::StreamBlobRequest,
    ) -> Result<(Target, Digest, BlobRange, usize), RexError> {
        let target = self.target(&request.registry, &request.repository)?;
        let digest = parse("digest", &request.digest)?;
        let not_negative =
            |field, value: i64| u64::try_from(value).map_err(|_| RexError::invalid(field, "is negative"));
        let offset = not_negative("offset", request.offset)?;
        let limit = Some(not_negative("limit", request.limit)?).filter(|limit| *limit > 0);
        let chunk_bytes = match usize::try_from(request.max_chunk_bytes) {
            Ok(0) => DEFAULT_CHUNK_BYTES,
            Ok(bytes) => bytes.clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end()),
            Err(_) => return Err(RexError::invalid("max_chunk_bytes", "is negative")),
        };
        Ok((target, digest, BlobRange { offset, limit }, chunk_bytes))
    }

    fn target(&self, registry: &str, repository: &str) -> Result<Target, RexError> {
        let registry = self.parse_registry(registry)?;
        let repository = Repository::of(&registry, repository)
            .map_err(|ParseError(problem)| RexError::invalid("repository", problem))?;
        self.policy.admit(&self.caller, &registry, Resource::Repository(&repository))?;
        Ok(Target { registry, repository })
    }

    fn registry(&self, text: &str, wanted: Resource<'_>) -> Result<Registry, RexError> {
        let registry = self.parse_registry(text)?;
        self.policy.admit(&self.caller, &registry, wanted)?;
        Ok(registry)
    }

    fn parse_registry(&self, text: &str) -> Result<Registry, RexError> {
        if !text.is_empty() {
            return parse("registry", text);
        }
        self.policy.default_registry().cloned().ok_or_else(|| {
            let problem = "is empty, and this service has no default registry: name one, for example ghcr.io";
            RexError::invalid("registry", problem)
        })
    }
}

fn parse<T: FromStr<Err = ParseError>>(field: &'static str, text: &str) -> Result<T, RexError> {
    text.parse().map_err(|ParseError(problem)| RexError::invalid(field, problem))
}

/// How old a response may be. Fractions count, and so does a time that no clock will reach.
fn max_age(max_age: Option<&prost_types::Duration>) -> Result<Option<Duration>, RexError> {
    let Some(max_age) = max_age else { return Ok(None) };
    // Not prost's own conversion: it takes a duration whose parts have different signs.
    let seconds = u64::try_from(max_age.seconds);
    let nanos = u32::try_from(max_age.nanos);
    match (seconds, nanos) {
        (Ok(seconds), Ok(nanos @ 0..1_000_000_000)) => Ok(Some(Duration::new(seconds, nanos))),
        (Ok(_), Ok(_)) => Err(RexError::invalid("max_age", "has nanos of a second or more")),
        (Err(_), _) | (_, Err(_)) => Err(RexError::invalid("max_age", "is negative")),
    }
}

fn page_request(listing: Listing, page_size: i32, page_token: &str) -> Result<PageRequest, RexError> {
    let size = match usize::try_from(page_size) {
        Ok(0) => DEFAULT_PAGE_SIZE,
        Ok(size) => size.min(MAX_PAGE_SIZE),
        Err(_) => return Err(RexError::invalid("page_size", "is negative")),
    };
    let token = match page_token {
        "" => None,
        text => {
            let invalid = |ParseError(problem)| RexError::invalid("page_token", problem);
            Some(PageToken::decode(text, &listing).map_err(invalid)?)
        }
    };
    Ok(PageRequest { listing, size, token })
}

pub(super) fn ping_response(registry: &Registry, pong: PingResponse) -> proto::PingResponse {
    let auth_scheme = match pong.scheme {
        AuthScheme::None => proto::AuthScheme::None,
        AuthScheme::Basic => proto::AuthScheme::Basic,
        AuthScheme::Bearer => proto::AuthScheme::Bearer,
    };
    proto::PingResponse {
        registry: registry.to_string(),
        api_version: pong.api_version,
        auth_scheme: auth_scheme.into(),
        latency: pong.latency.try_into().ok(),
    }
}

pub(super) fn catalog_response(page: &Page) -> proto::ListCatalogResponse {
    let next_page_token = next_page_token(page.next.as_ref());
    proto::ListCatalogResponse { repositories: page.entries.clone(), next_page_token }
}

pub(super) fn tags_response(page: &Page) -> proto::ListTagsResponse {
    proto::ListTagsResponse {
        tags: page.entries.clone(),
        next_page_token: next_page_token(page.next.as_ref()),
    }
}

fn next_page_token(next: Option<&PageToken>) -> String {
    next.map(PageToken::encode).unwrap_or_default()
}

pub(super) fn manifest_response(manifest: Manifest) -> proto::GetManifestResponse {
    use proto::get_manifest_response::Manifest as View;
    let view = match &manifest.document {
        Document::Manifest(manifest) => Some(View::ImageManifest(image_manifest(manifest))),
        Document::Index(index) => Some(View::ImageIndex(image_index(index))),
        Document::Other => None,
    };
    let mut response = proto::GetManifestResponse {
        content_descriptor: Some(descriptor(&manifest.descriptor)),
        content: manifest.content,
        manifest: view,
        index: None,
    };
    if response.encoded_len() > MAX_RESPONSE_BYTES {
        response.manifest = None;
    }
    response
}

fn image_manifest(manifest: &ImageManifest) -> proto::ImageManifest {
    proto::ImageManifest {
        schema_version: schema_version(manifest.schema_version()),
        media_type: text(manifest.media_type().as_ref()),
        artifact_type: text(manifest.artifact_type().as_ref()),
        config: Some(descriptor(manifest.config())),
        layers: manifest.layers().iter().map(descriptor).collect(),
        subject: manifest.subject().as_ref().map(descriptor),
        annotations: annotations(manifest.annotations().as_ref()),
    }
}

fn image_index(index: &ImageIndex) -> proto::ImageIndex {
    proto::ImageIndex {
        schema_version: schema_version(index.schema_version()),
        media_type: text(index.media_type().as_ref()),
        artifact_type: text(index.artifact_type().as_ref()),
        manifests: index.manifests().iter().map(descriptor).collect(),
        subject: index.subject().as_ref().map(descriptor),
        annotations: annotations(index.annotations().as_ref()),
    }
}

pub(super) fn descriptor(descriptor: &Descriptor) -> proto::ContentDescriptor {
    proto::ContentDescriptor {
        media_type: descriptor.media_type().to_string(),
        digest: descriptor.digest().to_string(),
        size: i64::try_from(descriptor.size()).unwrap_or(i64::MAX),
        urls: descriptor.urls().clone().unwrap_or_default(),
        annotations: annotations(descriptor.annotations().as_ref()),
        artifact_type: text(descriptor.artifact_type().as_ref()),
        platform: descriptor.platform().as_ref().map(platform),
    }
}

fn platform(platform: &oci_spec::image::Platform) -> proto::Platform {
    proto::Platform {
        os: platform.os().to_string(),
        architecture: platform.architecture().to_string(),
        variant: platform.variant().clone().unwrap_or_default(),
        os_version: platform.os_version().clone().unwrap_or_default(),
        os_features: platform.os_features().clone().unwrap_or_default(),
    }
}

fn schema_version(version: u32) -> i32 {
    i32::try_from(version).unwrap_or_default()
}

fn text(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn annotations(annotations: Option<&HashMap<String, String>>) -> HashMap<String, String> {
    annotations.cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::memory::{MemoryBudget, MemoryLimits};

    #[test]
    fn an_empty_registry_without_a_default_is_an_invalid_argument() {
        let policy = Policy::new(None, HashSet::new(), false);
        let limits = MemoryLimits { total: 1, per_peer: 1, per_caller: 1 };
        let memory = MemoryBudget::new(limits).account();
        let call = Call { policy: &policy, caller: Caller::anybody(), share: Share::of(""), memory };
        let refused = call.ping(&proto::PingRequest::default());
        assert!(
            matches!(&refused, Err(RexError::InvalidArgument { field: "registry", problem })
                if problem.starts_with("is empty, and this service has no default registry: name one")),
            "{refused:?}"
        );
    }
}
