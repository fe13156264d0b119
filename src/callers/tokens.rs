//! Callers' tokens: a file with one on each line, so that a new one can be handed out before the old one ends.
//!
//! Only hashes are kept. To look a hash up takes a time that tells of the hash alone, which says nothing about the token;
//! so nobody finds a token by measuring, and a dump of the memory holds none.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

/// 16 characters of the 64 of base64 are 96 bits: too many to guess over a network.
const MIN_BYTES: usize = 16;
/// Far below the limit of a header list (16 KiB), and enough for any signed token.
const MAX_BYTES: usize = 8 * 1024;

type Hash = [u8; 32];

/// The tokens of a caller.
#[derive(Debug, Default)]
pub(super) struct Tokens(HashSet<Hash>);

/// The token that a call shows.
pub(super) struct Presented(Hash);

impl Tokens {
    /// Reads a file: a token on each line, empty lines between them. Without any, the caller cannot be anybody: removing the
    /// last token must not leave it in use. The error quotes no token.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut tokens = HashSet::new();
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let token = line.trim_ascii();
            if !token.is_empty() {
                check(token).map_err(|problem| format!("line {number} {problem}"))?;
                tokens.insert(hash(token));
            }
        }
        Ok(Self(tokens))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn hold(&self, token: &Presented) -> bool {
        self.0.contains(&token.0)
    }
}

impl Presented {
    /// Reads the value of `authorization`: `Bearer` and a token (RFC 6750, section 2.1).
    pub(super) fn of(authorization: &[u8]) -> Result<Self, &'static str> {
        const WANTED: &str = "what is shown must be `Bearer` and the caller's token";
        let (scheme, token) = authorization.split_at_checked("Bearer ".len()).ok_or(WANTED)?;
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return Err(WANTED);
        }
        Ok(Self(hash(token.trim_ascii())))
    }
}

/// What can stand in a header (RFC 6750, `b64token`, and what people use besides), and cannot be guessed.
fn check(token: &[u8]) -> Result<(), &'static str> {
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err("holds a space or a character that is not ASCII; a token has neither");
    }
    if token.len() < MIN_BYTES {
        return Err("is shorter than 16 characters, which can be guessed");
    }
    if token.len() > MAX_BYTES { Err("is longer than 8 KiB") } else { Ok(()) }
}

fn hash(token: &[u8]) -> Hash {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const OLD: &str = "old-token-0123456789";
    const NEW: &str = "new-token-0123456789";

    fn accepts(file: &str, authorization: &str) -> bool {
        let tokens = Tokens::parse(file.as_bytes()).unwrap();
        Presented::of(authorization.as_bytes()).is_ok_and(|token| tokens.hold(&token))
    }

    #[test]
    fn each_line_is_a_token_whatever_ends_the_lines() {
        for file in
            [format!("{OLD}\n{NEW}"), format!("{OLD}\r\n\r\n{NEW}\r\n"), format!("\n  {NEW}\n{OLD}\n\n")]
        {
            assert!(accepts(&file, &format!("Bearer {OLD}")), "{file:?}");
            assert!(accepts(&file, &format!("bearer  {NEW} ")), "{file:?}");
        }
    }

    #[test]
    fn nothing_but_the_whole_token_as_bearer_is_accepted() {
        for authorization in
            ["", "Bearer", "Bearer ", OLD, "Basic old-token-0123456789", "Bearer old-token-012345678"]
        {
            assert!(!accepts(OLD, authorization), "{authorization:?}");
        }
        assert!(!accepts(OLD, &format!("Bearer {OLD}{OLD}")));
        assert!(!accepts(OLD, &format!("Bearer {OLD}\n{NEW}")));
        assert!(!accepts("\n\n", "Bearer "));
    }

    #[test]
    fn a_file_with_something_else_on_a_line_says_which_line_and_does_not_quote_it() {
        for wrong in [
            "tiny-token",
            "has a space in the middle",
            "tökèn-0123456789-0123",
            "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ] {
            let problem = Tokens::parse(format!("{OLD}\n{wrong}\n").as_bytes()).unwrap_err();
            assert!(problem.starts_with("line 2 ") && !problem.contains(wrong), "{problem}");
        }
    }
}
