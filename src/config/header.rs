//! Static request headers. A value may be a gateway's key, so it is treated as a secret and never printed.

use std::fmt;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// Replaces a secret wherever the configuration is printed.
const REDACTED: &str = "[redacted]";

/// Headers that the client sets itself. A second value would break framing, sign-in, or the exact bytes of a body.
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

/// Why a text cannot be a header's value. The message does not quote the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be visible ASCII, spaces and tabs: a header value has no line ends or control characters")]
pub struct InvalidHeader;

/// The value of a request header. It may be a secret, so it is never printed.
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
        // `from_str` accepts bytes above ASCII, whose meaning is not defined (RFC 9110, section 5.5).
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

/// Checks that `name` is a valid header name (RFC 9110, section 5.1) that the client does not set itself.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let parsed =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| "must be a valid header name".to_owned())?;
    if RESERVED.contains(&parsed.as_str()) {
        return Err("is set by the client itself and cannot be configured".to_owned());
    }
    Ok(())
}
