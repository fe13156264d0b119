//! What a response says about a manifest, checked against the manifest's bytes.

use bytes::Bytes;
use oci_spec::image::{Descriptor, MediaType};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::document::{Document, Manifest};
use crate::{
    client::{accept::Accept, exchange::named},
    error::{At, RexError},
    oci::{Algorithm, Digest, DocumentKind, Reference, Verifier},
};

/// What the headers of a response declare about its body.
pub(super) struct Declared {
    pub(super) digest: Option<String>,
    pub(super) content_type: Option<String>,
}

/// Checks what a response says about its body against the body itself. Holds the location for errors.
pub(super) struct Claims(pub(super) At);

impl Claims {
    pub(super) fn verified(
        &self,
        content: Bytes,
        reference: &Reference,
        declared: Declared,
        accept: &Accept,
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
        Ok(Manifest { descriptor, content, document })
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

    pub(super) fn parse(&self, content: &[u8], media_type: &str) -> Result<Document, RexError> {
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
