//! The streaming verifier, which computes the digest of content as it is read.

use sha2::{Digest as _, Sha256, Sha512};

use super::{Algorithm, Digest};

/// Computes the digest of content that arrives in pieces.
#[derive(Debug, Clone)]
pub struct Verifier {
    hash: Hash,
    seen: u64,
}

#[derive(Debug, Clone)]
enum Hash {
    Sha256(Sha256),
    /// Boxed, because its state is twice as large and it is rare.
    Sha512(Box<Sha512>),
}

impl Verifier {
    /// A verifier that has not seen any bytes.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        let hash = match algorithm {
            Algorithm::Sha256 => Hash::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hash::Sha512(Box::new(Sha512::new())),
        };
        Self { hash, seen: 0 }
    }

    /// The digest of `content`.
    #[must_use]
    pub fn digest_of(algorithm: Algorithm, content: &[u8]) -> Digest {
        let mut verifier = Self::new(algorithm);
        verifier.update(content);
        verifier.finish()
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.hash {
            Hash::Sha256(hash) => hash.update(bytes),
            Hash::Sha512(hash) => hash.update(bytes),
        }
        self.seen = self.seen.saturating_add(bytes.len() as u64);
    }

    /// The number of bytes so far.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The digest of all bytes so far.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.hash {
            Hash::Sha256(hash) => Digest::from_output(Algorithm::Sha256, &hash.finalize()),
            Hash::Sha512(hash) => Digest::from_output(Algorithm::Sha512, &hash.finalize()),
        }
    }
}
