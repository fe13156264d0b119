//! Origins (RFC 6454). Credentials belong to an origin.

use std::{fmt, str::FromStr};

use url::{Host, Url};

use crate::oci::ParseError;

/// A scheme, a host and a port: the unit that credentials belong to (RFC 6454).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: String,
    host: Host<String>,
    port: u16,
}

impl Origin {
    /// The origin of a URL; `None` for schemes other than http and https.
    #[must_use]
    pub fn of(url: &Url) -> Option<Self> {
        let scheme = url.scheme();
        if !matches!(scheme, "http" | "https") {
            return None;
        }
        Some(Self {
            scheme: scheme.to_owned(),
            host: url.host()?.to_owned(),
            port: url.port_or_known_default()?,
        })
    }

    /// The host, for the address checks.
    pub(super) fn host(&self) -> &Host<String> {
        &self.host
    }

    pub(super) fn is_https(&self) -> bool {
        self.scheme == "https"
    }
}

impl FromStr for Origin {
    type Err = ParseError;

    /// `scheme://host[:port]`, nothing after it.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let url = Url::parse(text).map_err(|_| ParseError("is not an origin such as https://host:port"))?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() {
            return Err(ParseError("must be an origin: a scheme, a host and a port, nothing else"));
        }
        Self::of(&url).ok_or(ParseError("is not an http or https origin"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}
