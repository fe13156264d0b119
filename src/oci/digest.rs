//! Digests: OCI Image Specification, descriptor.md, "Digests".

use std::{fmt, str::FromStr};

use super::ParseError;

/// The algorithms the specification registers and this service verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, 64 hexadecimal digits.
    Sha256,
    /// SHA-512, 128 hexadecimal digits.
    Sha512,
}

impl Algorithm {
    /// The algorithm's name in a digest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The number of hexadecimal digits: each digit is four bits.
    const fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 256 / 4,
            Self::Sha512 => 512 / 4,
        }
    }
}

/// A digest: an algorithm, a colon, and lower-case hexadecimal digits of exactly the algorithm's length.
///
/// Stricter than `oci-spec`'s type, which accepts other algorithms, upper case and other lengths. Callers may use a digest
/// as a file name, so a digest that is not checked strictly can become a path (CVE-2024-3727).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    text: String,
}

impl Digest {
    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The whole digest, `algorithm:hex`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Makes a digest from the output of a hash function.
    pub(super) fn from_output(algorithm: Algorithm, output: &[u8]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(algorithm.name().len() + 1 + algorithm.hex_length());
        text.push_str(algorithm.name());
        text.push(':');
        for byte in output {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self { algorithm, text }
    }
}

impl FromStr for Digest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (name, hex) = text.split_once(':').ok_or(ParseError("is not a digest: algorithm:hexadecimal"))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(ParseError("has a digest algorithm other than sha256 and sha512")),
        };
        if hex.len() != algorithm.hex_length() {
            return Err(ParseError("has a digest of the wrong length: sha256 has 64 digits, sha512 has 128"));
        }
        if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ParseError("has a digest that is not lower-case hexadecimal"));
        }
        Ok(Self { algorithm, text: text.to_owned() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
