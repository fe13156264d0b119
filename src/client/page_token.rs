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
    pub(super) last: Option<u32>,
}

impl PageToken {
    pub(super) fn new(
        listing: &Listing,
        query: Option<String>,
        skip: usize,
        pages: u32,
        last: Option<u32>,
    ) -> Self {
        let (registry, repository) = names(listing);
        Self { registry, repository, query, skip, pages, last }
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

fn checksum(bytes: &[u8]) -> Vec<u8> {
    let mut sum = Sha256::digest(bytes).to_vec();
    sum.truncate(CHECKSUM_BYTES);
    sum
}
