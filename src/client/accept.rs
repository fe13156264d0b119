//! The `Accept` header of a manifest request.

use http::HeaderValue;

use crate::{error::RexError, oci::DEFAULT_ACCEPT};

/// The media types a registry is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    #[must_use]
    pub fn includes(&self, media_type: &str) -> bool {
        let types = self.0.to_str().unwrap_or_default().split(", ");
        types.into_iter().any(|asked| match asked.strip_suffix('*') {
            // `type/*`, and `*/*` (RFC 9110 section 12.5.1).
            Some(kind) => {
                kind == "*/" || media_type.to_ascii_lowercase().starts_with(&kind.to_ascii_lowercase())
            }
            None => asked.eq_ignore_ascii_case(media_type),
        })
    }

    /// The value of the header.
    #[must_use]
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }
}
