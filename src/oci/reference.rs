//! References: a tag or a digest, `<reference>` of the OCI Distribution Specification, "Pulling manifests".

use std::{fmt, str::FromStr};

use super::{Digest, ParseError};

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
const MAX_TAG_LENGTH: usize = 128;

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl FromStr for Tag {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError("is empty"));
        }
        if text.len() > MAX_TAG_LENGTH {
            return Err(ParseError("is longer than 128 characters"));
        }
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let starts_well = text.bytes().next().is_some_and(is_word);
        if !starts_well || !text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-')) {
            return Err(ParseError(
                "is not a tag: letters, digits and '_', then also '.' and '-', at most 128 characters",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of a manifest within a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A tag, which may point to another manifest later.
    Tag(Tag),
    /// A digest, which always names the same content.
    Digest(Digest),
}

impl Reference {
    /// The reference as text, as in a URL's path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tag(Tag(text)) => text,
            Self::Digest(digest) => digest.as_str(),
        }
    }
}

impl FromStr for Reference {
    type Err = ParseError;

    /// A text with a colon is a digest, because a tag cannot contain one.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.contains(':') { text.parse().map(Self::Digest) } else { text.parse().map(Self::Tag) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
