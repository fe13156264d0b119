//! Page tokens (AIP-158): opaque to callers, and all that is needed to go on, so that any replica serves the next page.
//!
//! A token carries the list it is for and the query of the registry's next page. It carries no path and no host, and the
//! list is compared with the request's, so it can steer a request nowhere. The checksum is there for damage, not against
//! forgery: a forged token can ask for nothing that a request could not.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Listing;
use crate::oci::ParseError;

/// A cursor of at most 8 KiB, names of at most 514 bytes, and base64's third on top.
const MAX_BYTES: usize = 16 * 1024;

/// Enough to tell damage: a damaged token passes once in 2^64.
const CHECKSUM_BYTES: usize = 8;

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageToken {
    /// The registry's name.
    #[serde(rename = "r")]
    registry: String,
    /// The repository, for tags.
    #[serde(rename = "p", skip_serializing_if = "Option::is_none", default)]
    repository: Option<String>,
    /// The query of the registry's page; `None` is its first page, asked for without one.
    #[serde(rename = "q", skip_serializing_if = "Option::is_none", default)]
    pub(super) query: Option<String>,
    /// Entries of that page that were returned already.
    #[serde(rename = "s")]
    pub(super) skip: usize,
    /// Pages of the registry before that one.
    #[serde(rename = "n")]
    pub(super) pages: u32,
    /// A hash of the last entry before that page, to see that a list gets on.
    #[serde(rename = "l", skip_serializing_if = "Option::is_none", default)]
    last: Option<u32>,
    /// Such a hash of an earlier page, to see that a list does not go round. It is renewed when the count of pages reaches a
    /// power of two, so that a circle of any length meets it within three times the pages up to its end (Brent, "An
    /// Improved Monte Carlo Factorization Algorithm", 1980) and one hash is all that a token has to carry.
    #[serde(rename = "a", skip_serializing_if = "Option::is_none", default)]
    anchor: Option<u32>,
}

impl PageToken {
    /// The registry's first page, asked for with `query`.
    pub(super) fn first(listing: &Listing, query: Option<String>) -> Self {
        let (registry, repository) = names(listing);
        Self { registry, repository, query, skip: 0, pages: 0, last: None, anchor: None }
    }

    /// The registry's next page, asked for with `query`, after one whose last entry is `last`.
    pub(super) fn following(self, query: String, last: Option<&str>) -> Self {
        let pages = self.pages.saturating_add(1);
        let last = last.map(fingerprint).or(self.last);
        let anchor = if pages.is_power_of_two() { last } else { self.anchor };
        Self { query: Some(query), skip: 0, pages, last, anchor, ..self }
    }

    /// Why a page that ends in `last` shows that the list does not get on.
    pub(super) fn stands_still(&self, last: Option<&str>) -> Option<&'static str> {
        // Further on in the same page its last entry is still the same.
        let last = last.filter(|_| self.skip == 0).map(fingerprint)?;
        if self.last == Some(last) {
            return Some("a page of the list repeats the page before it");
        }
        (self.anchor == Some(last)).then_some("the pages of the list go round in a circle")
    }

    /// Further on in the same page of the registry, which was asked for with `query`.
    pub(super) fn further(self, returned: usize, query: Option<String>) -> Self {
        Self { skip: self.skip.saturating_add(returned), query, ..self }
    }

    /// The token as callers see it.
    #[must_use]
    pub fn encode(&self) -> String {
        // Strings and numbers always serialise.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.extend(checksum(&bytes));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a caller's token, which must be for the same list.
    pub fn decode(text: &str, listing: &Listing) -> Result<Self, ParseError> {
        const DAMAGED: ParseError = ParseError("is damaged; page tokens are passed on unchanged");
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
            return Err(ParseError("is of another list"));
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

    /// How many pages are read before the list is seen to stand still: `lead` of them once, and then `circle` for ever.
    fn pages_read(lead: u32, circle: u32) -> Option<u32> {
        let listing = Listing::Catalog("r.example".parse().unwrap());
        let mut token = PageToken::first(&listing, None);
        for page in 0..100_000 {
            let name = if page < lead { page } else { lead + (page - lead) % circle };
            let name = format!("v{name}");
            if token.stands_still(Some(&name)).is_some() {
                return Some(page);
            }
            // Through the caller's hands, as in life.
            let next = token.following(format!("cursor={page}"), Some(&name));
            token = PageToken::decode(&next.encode(), &listing).unwrap();
        }
        None
    }

    #[test]
    fn a_circle_of_any_length_is_seen_soon_and_never_within_its_first_round() {
        for (lead, circle) in [(0, 1), (0, 2), (0, 3), (1, 2), (5, 3), (7, 8), (8, 7), (100, 2), (0, 1000)] {
            let read = pages_read(lead, circle).unwrap();
            let end = lead + circle;
            assert!((end..=3 * end + 1).contains(&read), "{lead} and {circle}: {read}");
        }
    }
}
