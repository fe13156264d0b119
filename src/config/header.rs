//! Static request headers. Gateways take keys in them, so that a value is a secret here: it is never printed.

use std::fmt;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// What stands for a secret wherever the configuration is shown.
const REDACTED: &str = "[redacted]";

/// Headers that the client itself sets; a second value would break framing, signing in, or the byte-exact body.
const RESERVED: [&str; 14] = [
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "proxy-authorization",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Why a text cannot be a header's value. Does not quote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be visible ASCII, spaces and tabs: a header value has no line ends or control characters")]
pub struct InvalidHeader;

/// The value of a request header. May be a secret, and is shown nowhere.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", extend("format" = "header-value"))]
pub struct HeaderText(HeaderValue);

impl HeaderText {
    /// The value to send, marked sensitive.
    pub fn expose(&self) -> &HeaderValue {
        &self.0
    }
}

impl TryFrom<String> for HeaderText {
    type Error = InvalidHeader;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut value = HeaderValue::from_str(&text).map_err(|_| InvalidHeader)?;
        // `from_str` lets bytes above ASCII pass, which have no agreed meaning (RFC 9110, section 5.5).
        value.to_str().map_err(|_| InvalidHeader)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for HeaderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for HeaderText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// Checks that `name` is a header's name (RFC 9110, section 5.1) and one that is free to be set.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let parsed =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| "must be a valid header name".to_owned())?;
    if RESERVED.contains(&parsed.as_str()) {
        return Err("is set by the client itself and cannot be configured".to_owned());
    }
    Ok(())
}
