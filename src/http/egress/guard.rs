//! The rules: which URLs may be reached, and which ones may receive credentials. No I/O.

use url::{Host, Url};

use super::{address::AddressClass, origin::Origin};

/// How far the service trusts the origin of a URL that it may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The registry's own origin, listed in the configuration. Private addresses are allowed, and only this origin sees
    /// the client certificate.
    Registry,
    /// Another origin that the configuration names. Private addresses are allowed.
    Configured,
    /// An origin that a caller or a registry chose. Only https and public addresses are allowed.
    Public,
}

impl Trust {
    /// The trust in one hop of a redirect chain. A chain that has left the registry's origin does not regain
    /// [`Registry`](Self::Registry) when it comes back to it.
    pub(in crate::http) fn in_chain(self, stayed_at_registry: bool) -> Self {
        match self {
            Self::Registry if !stayed_at_registry => Self::Configured,
            trust => trust,
        }
    }
}

/// The egress rules of one registry.
#[derive(Debug, Clone)]
pub(in crate::http) struct Guard {
    registry: Origin,
    listed: bool,
    credential_origins: Vec<Origin>,
    trusted_origins: Vec<Origin>,
}

impl Guard {
    pub(in crate::http) fn new(
        registry: Origin,
        listed: bool,
        token_realms: Vec<Origin>,
        trusted: Vec<Origin>,
    ) -> Self {
        Self { registry, listed, credential_origins: token_realms, trusted_origins: trusted }
    }

    /// Whether `url` is at the registry's own origin, the only one that receives its tokens and its configured headers.
    pub(in crate::http) fn is_registry(&self, url: &Url) -> bool {
        Origin::of(url).is_some_and(|origin| origin == self.registry)
    }

    /// Whether a token service at `url` may receive the registry's credentials.
    pub(in crate::http) fn may_receive_credentials(&self, url: &Url) -> bool {
        Origin::of(url)
            .is_some_and(|origin| origin == self.registry || self.credential_origins.contains(&origin))
    }

    /// Checks that the service may connect to `url`. The error says which rule refuses it.
    pub(in crate::http) fn admit(&self, url: &Url) -> Result<Trust, String> {
        let origin = Origin::of(url).ok_or("only http and https URLs are allowed")?;
        let class = match origin.host() {
            Host::Ipv4(address) => Some(AddressClass::of((*address).into())),
            Host::Ipv6(address) => Some(AddressClass::of((*address).into())),
            Host::Domain(_) => None,
        };
        if class == Some(AddressClass::Metadata) {
            return Err(format!("{origin} is a cloud metadata address"));
        }
        if self.listed && origin == self.registry {
            return Ok(Trust::Registry);
        }
        if self.credential_origins.contains(&origin) || self.trusted_origins.contains(&origin) {
            return Ok(Trust::Configured);
        }
        if !origin.is_https() {
            return Err(format!("{origin} is not https, and the configuration does not name this origin"));
        }
        if class == Some(AddressClass::Private) {
            return Err(format!(
                "{origin} is a private address; add it to trusted_origins if this is intended"
            ));
        }
        Ok(Trust::Public)
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
