//! The keys of the engine: `<prefix>:1:<kind>:<hash>`.
//!
//! The number is the version of the format of all values. Two releases with different formats can share an engine: neither
//! reads what the other has written. A name is hashed, so that a key has the same length whatever a caller asks for, and
//! shows nothing of it.

use sha2::{Digest as _, Sha256};

/// The version of the format of keys and values.
const FORMAT: u32 = 1;

/// The longest prefix.
const MAX_PREFIX: usize = 64;

/// Makes keys.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    /// Keys that begin with `prefix`. The error is the predicate of a sentence about it.
    pub(super) fn new(prefix: &str) -> Result<Self, String> {
        let is_valid = (1..=MAX_PREFIX).contains(&prefix.len())
            && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte));
        if !is_valid {
            return Err(format!("must be 1 to {MAX_PREFIX} letters, digits and the characters . _ - :"));
        }
        Ok(Self { prefix: format!("{prefix}:{FORMAT}") })
    }

    /// The key of a document.
    pub(super) fn document(&self, name: &str) -> String {
        format!("{}:document:{}", self.prefix, hash(name))
    }

    /// The key of a lease.
    pub(super) fn lease(&self, name: &str) -> String {
        format!("{}:lease:{}", self.prefix, hash(name))
    }

    /// The key of the pauses of all registries.
    pub(super) fn pauses(&self) -> String {
        format!("{}:pauses", self.prefix)
    }

    /// The two keys of a registry's budget. The braces put both into one slot of a cluster.
    pub(super) fn budget(&self, registry: &str) -> [String; 2] {
        let hash = hash(registry);
        ["held", "next"].map(|part| format!("{}:budget:{{{hash}}}:{part}", self.prefix))
    }

    /// A key to write, read and remove.
    pub(super) fn probe(&self, replica: &str) -> String {
        format!("{}:probe:{}", self.prefix, hash(replica))
    }
}

fn hash(name: &str) -> String {
    to_hex(&Sha256::digest(name.as_bytes()))
}

/// Lower-case hexadecimal digits.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn keys_have_the_version_and_a_bounded_length() {
        let keys = Keys::new("rexd").unwrap();
        for name in ["", "a", &"long".repeat(10_000), "new\nline\0{braces}"] {
            let [held, next] = keys.budget(name);
            for key in [keys.document(name), keys.lease(name), keys.pauses(), keys.probe(name), held, next] {
                assert!(key.starts_with("rexd:1:"), "{key}");
                assert!(key.len() <= 100, "{key}");
                assert!(key.bytes().all(|byte| byte.is_ascii_graphic()), "{key}");
            }
        }
        assert_ne!(keys.document("a"), keys.document("b"));
    }

    #[test]
    fn a_prefix_that_would_change_the_form_of_keys_is_refused() {
        for prefix in ["", "a b", "a\n", "{a}", "ä", &"a".repeat(65)] {
            assert!(Keys::new(prefix).is_err(), "{prefix}");
        }
        assert!(Keys::new("team-a:rexd_2.0").is_ok());
    }
}
