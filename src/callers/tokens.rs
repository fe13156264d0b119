//! Callers' tokens. A file holds one on each line, so that a new token can be issued before the old one is removed.
//!
//! Only hashes are kept, so no token can be printed. The time of a lookup depends on the hash alone, so it reveals nothing
//! about a token.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

/// 16 characters of the 64 of base64 are 96 bits: too many to guess over a network.
const MIN_BYTES: usize = 16;
/// Far below the limit of a header list (16 KiB), and enough for any signed token.
const MAX_BYTES: usize = 8 * 1024;

type Hash = [u8; 32];

/// The tokens of a caller.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    hashes: HashSet<Hash>,
    /// The problems of lines that are not tokens. They never quote a line.
    problems: Vec<String>,
}

/// The token that came with a call.
pub(super) struct PresentedToken(Hash);

impl Tokens {
    /// Reads a file with a token on each line. Empty lines and lines that begin with `#` are skipped. A line that cannot be
    /// a token is skipped too, with a warning. It must not make the whole file invalid: the last valid content would stay in
    /// use, and with it a token that was just removed.
    #[expect(clippy::unnecessary_wraps, reason = "as the parser of a reloaded file")]
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut tokens = Self::default();
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let token = line.trim_ascii();
            if token.is_empty() || token.starts_with(b"#") {
                continue;
            }
            match check(token) {
                Ok(()) => drop(tokens.hashes.insert(hash(token))),
                Err(problem) => {
                    tracing::warn!(
                        line = number,
                        problem,
                        "a line of a token file is not a token and is skipped"
                    );
                    tokens.problems.push(format!("line {number} {problem}"));
                }
            }
        }
        Ok(tokens)
    }

    /// Why the service must not start with this file.
    pub(super) fn problem(&self) -> Option<String> {
        let none = self.hashes.is_empty().then(|| "holds no token".to_owned());
        self.problems.first().cloned().or(none)
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        !self.hashes.is_disjoint(&other.hashes)
    }

    pub(super) fn contains(&self, token: &PresentedToken) -> bool {
        self.hashes.contains(&token.0)
    }
}

impl PresentedToken {
    /// Reads the value of `authorization`: `Bearer` and a token (RFC 6750, section 2.1).
    pub(super) fn parse(authorization: &[u8]) -> Result<Self, &'static str> {
        const EXPECTED: &str = "the credentials must be `Bearer` and the caller's token";
        let (scheme, token) = authorization.split_at_checked("Bearer ".len()).ok_or(EXPECTED)?;
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return Err(EXPECTED);
        }
        Ok(Self(hash(token.trim_ascii())))
    }
}

/// Checks that a token can be sent in a header and cannot be guessed. More characters are allowed than in the `b64token`
/// of RFC 6750, because people use them.
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
        PresentedToken::parse(authorization.as_bytes()).is_ok_and(|token| tokens.contains(&token))
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
    fn a_line_that_is_commented_out_is_not_a_token() {
        for comment in [format!("# {OLD}"), format!("#{OLD}"), format!("  #{OLD}"), "# a note".to_owned()] {
            let file = format!("{comment}\n{NEW}\n");
            assert_eq!(Tokens::parse(file.as_bytes()).unwrap().problem(), None);
            assert!(accepts(&file, &format!("Bearer {NEW}")), "{file:?}");
            for token in [OLD.to_owned(), format!("#{OLD}"), format!("# {OLD}")] {
                assert!(!accepts(&file, &format!("Bearer {token}")), "{file:?}");
            }
        }
    }

    #[test]
    fn a_file_with_something_else_on_a_line_says_which_line_and_keeps_the_others() {
        for wrong in [
            "tiny-token",
            "has a space in the middle",
            "tökèn-0123456789-0123",
            "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ] {
            let file = format!("{OLD}\n{wrong}\n");
            let problem = Tokens::parse(file.as_bytes()).unwrap().problem().unwrap();
            assert!(accepts(&file, &format!("Bearer {OLD}")));
            assert!(problem.starts_with("line 2 ") && !problem.contains(wrong), "{problem}");
        }
    }
}
