//! Manifests and indexes: OCI Distribution Specification, "Pulling manifests".
//!
//! A digest covers exact bytes, so the bytes are kept unchanged and the digest is always computed from them. What the
//! response says about itself – `Docker-Content-Digest`, `Content-Type`, `mediaType` – is checked, never trusted.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Client, Target, endpoint,
    exchange::{expect_success, get, named},
};
use crate::{
    auth::Scope,
    error::{At, Missing, RexError},
    http::{CallContext, Response},
    oci::{Algorithm, DEFAULT_ACCEPT, Digest, DocumentKind, Platform, Reference, Verifier},
    upstream::Upstream,
};

/// Indexes may be nested, which is rare. Deeper nesting than this is refused.
const MAX_DEPTH: usize = 4;

/// The media types a registry is asked for.
#[derive(Debug, Clone)]
pub struct Accept(HeaderValue);

impl Accept {
    /// At most 16 types of at most 255 characters (RFC 6838 section 4.2 allows 127 on each side of the slash).
    const MAX_TYPES: usize = 16;
    const MAX_TYPE_LENGTH: usize = 255;

    /// The types in order of preference. An empty list means [`DEFAULT_ACCEPT`].
    pub fn new(media_types: &[String]) -> Result<Self, RexError> {
        let invalid = |problem: &str| RexError::invalid("accept_media_types", problem);
        if media_types.len() > Self::MAX_TYPES {
            return Err(invalid("holds more than 16 media types"));
        }
        let is_token = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&b))
        };
        let is_media_type = |text: &String| {
            text.len() <= Self::MAX_TYPE_LENGTH
                && text.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
        };
        if !media_types.iter().all(is_media_type) {
            return Err(invalid(
                "holds a text that is not a media type, for example application/vnd.oci.image.index.v1+json",
            ));
        }
        let joined = if media_types.is_empty() { DEFAULT_ACCEPT.join(", ") } else { media_types.join(", ") };
        HeaderValue::try_from(joined).map(Self).map_err(|_| invalid("cannot be sent in a header"))
    }

    /// Whether the request asked for a media type (without parameters).
    fn includes(&self, media_type: &str) -> bool {
        let types = self.0.to_str().unwrap_or_default().split(", ");
        types.into_iter().any(|asked| match asked.strip_suffix('*') {
            // `type/*`, and `*/*` (RFC 9110 section 12.5.1).
            Some(kind) => {
                kind == "*/" || media_type.to_ascii_lowercase().starts_with(&kind.to_ascii_lowercase())
            }
            None => asked.eq_ignore_ascii_case(media_type),
        })
    }
}

/// Options of a manifest request.
#[derive(Debug, Clone)]
pub struct ManifestOptions {
    /// The media types to accept.
    pub accept: Accept,
    /// The platform whose entry of an index to return instead of the index.
    pub platform: Option<Platform>,
}

/// A manifest, verified.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The media type, the computed digest, the size.
    pub descriptor: Descriptor,
    /// The exact bytes.
    pub content: Bytes,
    /// The bytes, parsed.
    pub document: Document,
    /// The index that the reference named, when `platform` picked this manifest from it.
    pub index: Option<Descriptor>,
}

/// What a manifest is.
#[derive(Debug, Clone)]
pub enum Document {
    /// An image manifest.
    Manifest(Box<ImageManifest>),
    /// An image index or manifest list.
    Index(Box<ImageIndex>),
    /// A type that this service does not parse.
    Other,
}

impl Client {
    /// Fetches what a reference names, or the entry of it that runs on a platform (end-3).
    pub async fn manifest(
        &self,
        target: &Target,
        reference: &Reference,
        options: &ManifestOptions,
        call: &CallContext,
    ) -> Result<Manifest, RexError> {
        let upstream = self.upstream(&target.registry).await?;
        let pull = Pull {
            upstream: &upstream,
            target,
            scope: &Scope::Pull(target.repository.clone()),
            accept: &options.accept,
            limit: self.limits.manifest_bytes,
            call,
        };
        let mut manifest = pull.fetch(reference).await?;
        let Some(platform) = &options.platform else {
            return Ok(manifest);
        };
        for _ in 0..MAX_DEPTH {
            let Document::Index(index) = &manifest.document else {
                return Ok(manifest);
            };
            let not_found = || RexError::NotFound {
                at: upstream.at(Some(&target.repository)),
                missing: Missing::Manifest,
                name: format!("for platform {platform} in the index {reference}"),
            };
            let entry = platform.pick(index.manifests()).ok_or_else(not_found)?.clone();
            let outer = manifest.index.take().unwrap_or(manifest.descriptor);
            manifest = pull.entry(&entry).await?;
            manifest.index = Some(outer);
        }
        Err(pull.invalid("indexes are nested too deep".to_owned()))
    }
}

struct Pull<'a> {
    upstream: &'a Upstream,
    target: &'a Target,
    scope: &'a Scope,
    accept: &'a Accept,
    limit: usize,
    call: &'a CallContext,
}

impl Pull<'_> {
    /// Fetches an entry of an index, which must be what the index says it is.
    async fn entry(&self, entry: &Descriptor) -> Result<Manifest, RexError> {
        let digest: Digest = entry
            .digest()
            .as_ref()
            .parse()
            .map_err(|problem| self.invalid(format!("a digest in the index {problem}")))?;
        let manifest = self.fetch(&Reference::Digest(digest)).await?;
        if manifest.descriptor.size() != entry.size() {
            let problem = format!(
                "the index gives {} a size of {} bytes, but it has {}",
                entry.digest(),
                entry.size(),
                manifest.descriptor.size()
            );
            return Err(RexError::Integrity { at: self.at(), problem });
        }
        Ok(manifest)
    }

    async fn fetch(&self, reference: &Reference) -> Result<Manifest, RexError> {
        let url = endpoint::manifest(&self.upstream.base(), &self.target.repository, reference);
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, self.accept.0.clone());
        let request = get(url, headers, self.at(), self.call);
        let response = self.upstream.send(&request, self.scope).await?;
        let response = expect_success(response, Missing::Manifest, reference.as_str()).await?;
        self.verified(response, reference).await
    }

    async fn verified(&self, response: Response, reference: &Reference) -> Result<Manifest, RexError> {
        let digest_header = response.header(endpoint::CONTENT_DIGEST).map(str::to_owned);
        let content_type = response.content_type();
        let claims = Claims(response.at());
        let content = response.read("manifest", self.limit).await?;
        let digest = claims.check_digest(&content, reference, digest_header.as_deref())?;
        let media_type = claims.media_type(&content, content_type, self.accept)?;
        let document = claims.parse(&content, &media_type)?;
        let spec_digest: oci_spec::image::Digest = digest
            .as_str()
            .parse()
            .map_err(|_| claims.invalid("its digest has an unsupported form".to_owned()))?;
        let descriptor =
            Descriptor::new(MediaType::from(media_type.as_str()), content.len() as u64, spec_digest);
        Ok(Manifest { descriptor, content, document, index: None })
    }

    fn at(&self) -> At {
        self.upstream.at(Some(&self.target.repository))
    }

    fn invalid(&self, problem: String) -> RexError {
        RexError::Validation { at: self.at(), problem }
    }
}

/// Checks what a response says about its body against the body itself. Holds the location for errors.
struct Claims(At);

impl Claims {
    /// Checks the requested digest; for a tag, the digest in the header.
    fn check_digest(
        &self,
        content: &[u8],
        reference: &Reference,
        header: Option<&str>,
    ) -> Result<Digest, RexError> {
        let expected = match (reference, header) {
            (Reference::Digest(digest), _) => digest.clone(),
            (Reference::Tag(_), Some(header)) => header
                .parse()
                .map_err(|problem| self.invalid(format!("its Docker-Content-Digest {problem}")))?,
            (Reference::Tag(_), None) => return Ok(Verifier::digest_of(Algorithm::Sha256, content)),
        };
        let computed = Verifier::digest_of(expected.algorithm(), content);
        if computed != expected {
            let problem =
                format!("the manifest {reference} should have the digest {expected}, but has {computed}");
            return Err(RexError::Integrity { at: self.0.clone(), problem });
        }
        Ok(computed)
    }

    /// `Content-Type` and `mediaType` must agree, and a body must not be both a manifest and an index (CVE-2021-41190). A type
    /// that is not parsed must be one that the request accepts or that the body names itself. An error in JSON is neither.
    fn media_type(
        &self,
        content: &[u8],
        content_type: Option<String>,
        accept: &Accept,
    ) -> Result<String, RexError> {
        let named_type = named(content_type.as_deref()).to_owned();
        let outline: Outline = serde_json::from_slice(content)
            .map_err(|_| self.invalid(format!("{named_type} instead of a manifest")))?;
        if outline.is_ambiguous() {
            return Err(self.invalid("a body with both manifests and layers is refused".to_owned()));
        }
        let names_itself = outline.media_type.is_some();
        let media_type = match (content_type, outline.media_type) {
            (Some(header), Some(own)) if !header.eq_ignore_ascii_case(&own) => {
                let own: String = own.chars().filter(|c| c.is_ascii_graphic()).take(128).collect();
                return Err(self.invalid(format!("its Content-Type is {header}, and its mediaType is {own}")));
            }
            (Some(header), _) => header,
            (None, Some(own)) => own,
            (None, None) => return Err(self.invalid("it has neither Content-Type nor mediaType".to_owned())),
        };
        let is_version_1 =
            DocumentKind::of(&media_type) != DocumentKind::Schema1 && outline.schema_version == Some(1);
        if is_version_1 || DocumentKind::of(&media_type) == DocumentKind::Schema1 {
            let problem = format!(
                "{}: Docker image manifest schema 1 cannot be verified; push the image again",
                media_type
            );
            return Err(RexError::Unsupported { at: self.0.clone(), problem });
        }
        let is_error = outline.errors.is_some() || !accept.includes(&media_type);
        if DocumentKind::of(&media_type) == DocumentKind::Other && !names_itself && is_error {
            return Err(self.invalid(format!("{} instead of a manifest", named(Some(&media_type)))));
        }
        Ok(media_type)
    }

    fn parse(&self, content: &[u8], media_type: &str) -> Result<Document, RexError> {
        let wrong = |error: serde_json::Error| {
            self.invalid(format!(
                "not a valid {media_type} at line {}, column {}",
                error.line(),
                error.column()
            ))
        };
        match DocumentKind::of(media_type) {
            DocumentKind::Manifest => serde_json::from_slice(content).map(Document::Manifest).map_err(wrong),
            DocumentKind::Index => serde_json::from_slice(content).map(Document::Index).map_err(wrong),
            DocumentKind::Schema1 | DocumentKind::Other => Ok(Document::Other),
        }
    }

    fn invalid(&self, problem: String) -> RexError {
        RexError::Validation { at: self.0.clone(), problem }
    }
}

/// The fields of a body that show what kind of document it is. Their contents are not parsed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline<'a> {
    media_type: Option<String>,
    schema_version: Option<u64>,
    #[serde(borrow)]
    manifests: Option<&'a RawValue>,
    #[serde(borrow)]
    layers: Option<&'a RawValue>,
    #[serde(borrow)]
    config: Option<&'a RawValue>,
    #[serde(borrow)]
    fs_layers: Option<&'a RawValue>,
    /// Present in an error body ("Error Codes"), which some proxies send with status 200.
    #[serde(borrow)]
    errors: Option<&'a RawValue>,
}

impl Outline<'_> {
    fn is_ambiguous(&self) -> bool {
        self.manifests.is_some()
            && (self.layers.is_some() || self.config.is_some() || self.fs_layers.is_some())
    }
}
