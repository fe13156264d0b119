//! Manifests and indexes: OCI Distribution Specification, "Pulling manifests".
//!
//! A digest covers exact bytes, so the bytes are kept unchanged and the digest is always computed from them. What the
//! response says about itself – `Docker-Content-Digest`, `Content-Type`, `mediaType` – is checked, never trusted.

use bytes::Bytes;
use http::{HeaderMap, header};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Client, Target,
    accept::Accept,
    endpoint,
    exchange::{expect_success, get, named},
};
use crate::{
    auth::Scope,
    error::{At, Missing, RexError},
    http::CallContext,
    oci::{Algorithm, Digest, DocumentKind, Platform, Reference, Verifier},
    upstream::Upstream,
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
    /// Fetches what a reference names, or the entry of it that runs on a platform (end-3), and returns the `view` of it. Parsed
    /// documents are large, so the view is made where the document is parsed, and only the view is kept.
    pub async fn manifest<T: Send + 'static>(
        &self,
        target: &Target,
        reference: &Reference,
        options: &ManifestOptions,
        call: &CallContext,
        view: fn(Manifest) -> T,
    ) -> Result<T, RexError> {
        let upstream = self.upstream(&target.registry).await?;
        let pull = Pull {
            upstream: &upstream,
            target,
            reference,
            scope: &Scope::Pull(target.repository.clone()),
            options,
            limit: self.limits.manifest_bytes,
            call,
            view,
        };
        let mut step = pull.fetch(reference, None).await?;
        for _ in 0..MAX_DEPTH {
            step = match step {
                Step::Found(view) => return Ok(view),
                Step::Entry(entry) => pull.entry(*entry).await?,
            };
        }
        Err(pull.invalid("indexes are nested too deep".to_owned()))
    }
}

struct Pull<'a, T> {
    upstream: &'a Upstream,
    target: &'a Target,
    /// What the caller named.
    reference: &'a Reference,
    scope: &'a Scope,
    options: &'a ManifestOptions,
    limit: usize,
    call: &'a CallContext,
    view: fn(Manifest) -> T,
}

/// What a fetched manifest leads to.
enum Step<T> {
    /// The view of the manifest that was asked for.
    Found(T),
    /// The entry of an index that comes next.
    Entry(Box<Entry>),
}

/// An entry of an index, for a platform.
struct Entry {
    /// The entry itself.
    descriptor: Descriptor,
    /// The outermost index.
    index: Descriptor,
}

impl<T: Send + 'static> Pull<'_, T> {
    /// Fetches an entry of an index, which must be what the index says it is.
    async fn entry(&self, entry: Entry) -> Result<Step<T>, RexError> {
        let digest: Digest = entry
            .descriptor
            .digest()
            .as_ref()
            .parse()
            .map_err(|problem| self.invalid(format!("a digest in the index {problem}")))?;
        self.fetch(&Reference::Digest(digest), Some(entry)).await
    }

    async fn fetch(&self, reference: &Reference, entry: Option<Entry>) -> Result<Step<T>, RexError> {
        let url = endpoint::manifest(&self.upstream.base(), &self.target.repository, reference);
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, self.options.accept.value().clone());
        let request = get(url, headers, self.at(), self.call);
        let response = self.upstream.send(&request, self.scope).await?;
        let response = expect_success(response, Missing::Manifest, reference.as_str()).await?;
        let declared = Declared {
            digest: response.header(endpoint::CONTENT_DIGEST).map(str::to_owned),
            content_type: response.content_type(),
        };
        let claims = Claims(response.at());
        let content = response.read("manifest", self.limit).await?;
        let (bytes, requested, named) = (content.len(), reference.clone(), self.reference.clone());
        let (options, view, not_found_at) = (self.options.clone(), self.view, self.at());
        let work = move || {
            let outer = entry.as_ref().map(|entry| entry.index.clone());
            let manifest = claims.verified(content, &requested, declared, &options.accept, outer)?;
            if let Some(entry) = &entry {
                claims.check_size(&manifest, &entry.descriptor)?;
            }
            let (Document::Index(index), Some(platform)) = (&manifest.document, &options.platform) else {
                return Ok(Step::Found(view(manifest)));
            };
            let not_found = || RexError::NotFound {
                at: not_found_at,
                missing: Missing::Manifest,
                name: format!("for platform {platform} in the index {named}"),
            };
            let descriptor = platform.pick(index.manifests()).ok_or_else(not_found)?.clone();
            let index = manifest.index.unwrap_or(manifest.descriptor);
            Ok(Step::Entry(Box::new(Entry { descriptor, index })))
        };
        self.upstream.work_on_body(bytes, self.call, work).await?
    }

    fn at(&self) -> At {
        self.upstream.at(Some(&self.target.repository))
    }

    fn invalid(&self, problem: String) -> RexError {
        RexError::Validation { at: self.at(), problem }
    }
}

/// What the headers of a response declare about its body.
struct Declared {
    digest: Option<String>,
    content_type: Option<String>,
}

/// Checks what a response says about its body against the body itself. Holds the location for errors.
struct Claims(At);

impl Claims {
    fn verified(
        &self,
        content: Bytes,
        reference: &Reference,
        declared: Declared,
        accept: &Accept,
        index: Option<Descriptor>,
    ) -> Result<Manifest, RexError> {
        let digest = self.check_digest(&content, reference, declared.digest.as_deref())?;
        let media_type = self.media_type(&content, declared.content_type, accept)?;
        let document = self.parse(&content, &media_type)?;
        let spec_digest: oci_spec::image::Digest = digest
            .as_str()
            .parse()
            .map_err(|_| self.invalid("its digest has an unsupported form".to_owned()))?;
        let descriptor =
            Descriptor::new(MediaType::from(media_type.as_str()), content.len() as u64, spec_digest);
        Ok(Manifest { descriptor, content, document, index })
    }

    /// An entry of an index must have the size that the index says.
    fn check_size(&self, manifest: &Manifest, entry: &Descriptor) -> Result<(), RexError> {
        if manifest.descriptor.size() == entry.size() {
            return Ok(());
        }
        let (digest, expected, bytes) = (entry.digest(), entry.size(), manifest.descriptor.size());
        let problem = format!("the index gives {digest} a size of {expected} bytes, but it has {bytes}");
        Err(RexError::Integrity { at: At { http_status: None, ..self.0.clone() }, problem })
    }

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
