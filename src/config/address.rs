//! Addresses: the URLs of registries, trusted origins (RFC 6454), and registry names.

use std::fmt;
use std::net::Ipv6Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Why a text is not a [`RegistryUrl`] or a [`WebOrigin`]. The message never quotes the text, which may contain a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAddress(String);

/// The URL of a registry: `http` or `https`, a host, and optionally a port and a path prefix. No user, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "registry-url", "pattern" = "^[hH][tT][tT][pP][sS]?://"))]
pub struct RegistryUrl(Url);

impl RegistryUrl {
    /// The URL. Its path does not end with a slash, unless it is the root.
    pub fn as_url(&self) -> &Url {
        &self.0
    }
}

impl TryFrom<String> for RegistryUrl {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut url = web_url(&text)?;
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl From<RegistryUrl> for String {
    fn from(url: RegistryUrl) -> Self {
        url.0.as_str().trim_end_matches('/').to_owned()
    }
}

/// The scheme, host and port of an `http` or `https` server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "web-origin", "pattern" = "^[hH][tT][tT][pP][sS]?://[^/]+/?$"))]
pub struct WebOrigin(url::Origin);

impl WebOrigin {
    /// The origin, comparable with [`Url::origin`].
    pub fn as_origin(&self) -> &url::Origin {
        &self.0
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.ascii_serialization())
    }
}

impl TryFrom<String> for WebOrigin {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let url = web_url(&text)?;
        if url.path() != "/" {
            return Err(InvalidAddress("must be scheme, host and port only, without a path".to_owned()));
        }
        Ok(Self(url.origin()))
    }
}

impl From<WebOrigin> for String {
    fn from(origin: WebOrigin) -> Self {
        origin.to_string()
    }
}

fn web_url(text: &str) -> Result<Url, InvalidAddress> {
    let url = Url::parse(text).map_err(|error| {
        InvalidAddress(format!("must be a URL such as https://registry.internal:5000 ({error})"))
    })?;
    let refusal = if !matches!(url.scheme(), "http" | "https") {
        "must start with http:// or https://"
    } else if !url.username().is_empty() || url.password().is_some() {
        "must not hold a user name or password; there are keys for files with them"
    } else if url.query().is_some() || url.fragment().is_some() {
        "must not have a query or fragment"
    } else if url.port() == Some(0) {
        "must not have port 0"
    } else {
        return Ok(url);
    };
    Err(InvalidAddress(refusal.to_owned()))
}

/// Checks the `host[:port]` of an image reference (the `domain` of the Distribution project's reference grammar) in
/// its canonical, lower-case form.
pub(super) fn check_registry_name(name: &str) -> Result<(), String> {
    let refusal =
        Err("must be a registry name: host or host:port, lower-case, without scheme or path".to_owned());
    let (host, port) = match name.rsplit_once(':') {
        // The colon of `[::1]` belongs to the host.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (name, None),
    };
    let port_is_valid = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && !port.starts_with('0')
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    let host_is_valid = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(literal) => literal.parse::<Ipv6Addr>().is_ok_and(|address| address.to_string() == literal),
        None => is_dns_name(host) && matches!(Host::parse(host), Ok(parsed) if parsed.to_string() == host),
    };
    if port_is_valid && host_is_valid { Ok(()) } else { refusal }
}

/// RFC 1123 labels, lower-case, at most 63 bytes each and 253 in all.
pub(super) fn is_dns_name(host: &str) -> bool {
    host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
}
