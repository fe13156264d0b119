//! Page tokens (AIP-158). They are opaque to callers and hold everything that the next page needs, so any replica can serve
//! it.
//!
//! A token carries its list and the query of the registry's next page. It carries no host and no path, and its list must
//! match the request's, so a token cannot direct a request elsewhere. The checksum detects damage; it is no protection
//! against forgery. So `page_query` checks the parameters of a token's query before it is sent.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Listing;
use crate::oci::ParseError;

/// A cursor of at most 8 KiB, names of at most 514 bytes, and base64's third on top.
const MAX_BYTES: usize = 16 * 1024;

/// Enough to detect damage: a damaged token passes with a probability of 2^-64.
const CHECKSUM_BYTES: usize = 8;

/// Where a list continues.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageToken {
    /// The registry's name.
    #[serde(rename = "r")]
    registry: String,
    /// The repository, for tags.
    #[serde(rename = "p", skip_serializing_if = "Option::is_none", default)]
    repository: Option<String>,
    /// The query of the registry's page; `None` is its first page, requested without one.
    #[serde(rename = "q", skip_serializing_if = "Option::is_none", default)]
    pub(super) query: Option<String>,
    /// Entries of that page that were returned already.
    #[serde(rename = "s")]
    pub(super) skip: usize,
    /// Pages of the registry before that one.
    #[serde(rename = "n")]
    pub(super) pages: u32,
    /// A hash of the last entry before that page, to detect a page that repeats it.
    #[serde(rename = "l", skip_serializing_if = "Option::is_none", default)]
    last: Option<u32>,
    /// The same hash of an earlier page, to detect a cycle. It is renewed when the number of pages reaches a power of two. So
    /// a cycle of any length is found within three times the pages up to its end, with a single hash in the token (Brent, "An
    /// Improved Monte Carlo Factorization Algorithm", 1980).
    #[serde(rename = "a", skip_serializing_if = "Option::is_none", default)]
    anchor: Option<u32>,
}

impl PageToken {
    /// The registry's first page, requested with `query`.
    pub(super) fn first(listing: &Listing, query: Option<String>) -> Self {
        let (registry, repository) = names(listing);
        Self { registry, repository, query, skip: 0, pages: 0, last: None, anchor: None }
    }

    /// The registry's next page, requested with `query`, after one whose last entry is `last`.
    pub(super) fn following(self, query: String, last: Option<&str>) -> Self {
        let pages = self.pages.saturating_add(1);
        let last = last.map(fingerprint).or(self.last);
        let anchor = if pages.is_power_of_two() { last } else { self.anchor };
        Self { query: Some(query), skip: 0, pages, last, anchor, ..self }
    }

    /// The problem, if a page that ends in `last` shows that the pages repeat.
    pub(super) fn repeats(&self, last: Option<&str>) -> Option<&'static str> {
        // A later window of the same page has the same last entry.
        let last = last.filter(|_| self.skip == 0).map(fingerprint)?;
        if self.last == Some(last) {
            return Some("a page of the list repeats the page before it");
        }
        (self.anchor == Some(last)).then_some("the pages of the list go round in a circle")
    }

    /// A later window of the same page of the registry, which was requested with `query`.
    pub(super) fn further(self, returned: usize, query: Option<String>) -> Self {
        Self { skip: self.skip.saturating_add(returned), query, ..self }
    }

    /// The token as callers see it.
    #[must_use]
    pub fn encode(&self) -> String {
        // Strings and numbers always serialize.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.extend(checksum(&bytes));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a caller's token, which must be for the same list.
    pub fn decode(text: &str, listing: &Listing) -> Result<Self, ParseError> {
        const DAMAGED: ParseError = ParseError("is damaged; send page tokens back unchanged");
        if text.len() > MAX_BYTES {
            return Err(DAMAGED);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| DAMAGED)?;
        let at = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(DAMAGED)?;
        let (json, sum) = bytes.split_at(at);
        if sum != checksum(json) {
            return Err(DAMAGED);
        }
        let token: Self = serde_json::from_slice(json).map_err(|_| DAMAGED)?;
        let (registry, repository) = names(listing);
        if token.registry != registry || token.repository != repository {
            return Err(ParseError("belongs to another list"));
        }
        Ok(token)
    }
}

fn names(listing: &Listing) -> (String, Option<String>) {
    match listing {
        Listing::Catalog(registry) => (registry.to_string(), None),
        Listing::Tags(target) => (target.registry.to_string(), Some(target.repository.to_string())),
    }
}

fn fingerprint(name: &str) -> u32 {
    Sha256::digest(name.as_bytes()).iter().take(4).fold(0, |sum, byte| (sum << 8) | u32::from(*byte))
}

fn checksum(bytes: &[u8]) -> Vec<u8> {
    let mut sum = Sha256::digest(bytes).to_vec();
    sum.truncate(CHECKSUM_BYTES);
    sum
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// The number of pages read before the cycle is found: `lead` pages come once, then `circle` pages repeat.
    fn pages_read(lead: u32, circle: u32) -> Option<u32> {
        let listing = Listing::Catalog("r.example".parse().unwrap());
        let mut token = PageToken::first(&listing, None);
        for page in 0..100_000 {
            let name = if page < lead { page } else { lead + (page - lead) % circle };
            let name = format!("v{name}");
            if token.repeats(Some(&name)).is_some() {
                return Some(page);
            }
            // Encode and decode it, as a caller's round trip does.
            let next = token.following(format!("cursor={page}"), Some(&name));
            token = PageToken::decode(&next.encode(), &listing).unwrap();
        }
        None
    }

    #[test]
    fn a_cycle_of_any_length_is_found_soon_but_never_in_its_first_round() {
        for (lead, circle) in [(0, 1), (0, 2), (0, 3), (1, 2), (5, 3), (7, 8), (8, 7), (100, 2), (0, 1000)] {
            let read = pages_read(lead, circle).unwrap();
            let end = lead + circle;
            assert!((end..=3 * end + 1).contains(&read), "{lead} and {circle}: {read}");
        }
    }
}
