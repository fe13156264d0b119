//! The resolver hook: filters every DNS response at the moment of connecting.
//!
//! A name that resolves to a public address when it is checked and to a private one when it is used (DNS rebinding)
//! gets nowhere, because the check and the use see the same response.

use std::{error::Error, fmt, net::SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{address::AddressClass, guard::Trust, lookups::Lookups};

/// Resolves names and drops every address that the connection may not use.
pub(in crate::http) struct GuardedResolver {
    /// The lookups of the registry that the connections belong to.
    pub(in crate::http) lookups: Lookups,
    /// The host of the forward proxy. It may have a private address on every connection.
    pub(in crate::http) proxy_host: Option<String>,
    /// How far the origins are trusted that these connections go to.
    pub(in crate::http) trust: Trust,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let may_be_private = self.trust != Trust::Public || self.proxy_host.as_deref() == Some(host.as_str());
        let lookups = self.lookups.clone();
        Box::pin(async move {
            let addresses = lookups.look_up(&host).await?;
            let allowed = filter(&host, addresses.iter().copied(), may_be_private)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Keeps the addresses that may be used. It is an error when there were addresses and none of them may be.
pub(super) fn filter(
    host: &str,
    addresses: impl Iterator<Item = SocketAddr>,
    may_be_private: bool,
) -> Result<Vec<SocketAddr>, AddressRefused> {
    let mut refused = None;
    let mut allowed = Vec::new();
    for address in addresses {
        match AddressClass::of(address.ip()) {
            AddressClass::Public => allowed.push(address),
            AddressClass::Private if may_be_private => allowed.push(address),
            class @ (AddressClass::Private | AddressClass::Metadata) => refused = Some(class),
        }
    }
    match refused {
        Some(class) if allowed.is_empty() => Err(AddressRefused { host: host.to_owned(), class }),
        _ => Ok(allowed),
    }
}

/// A name resolved only to addresses that may not be used.
#[derive(Debug)]
pub(in crate::http) struct AddressRefused {
    host: String,
    class: AddressClass,
}

impl fmt::Display for AddressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.class {
            AddressClass::Metadata => write!(f, "{} resolves to a cloud metadata address", self.host),
            AddressClass::Private | AddressClass::Public => write!(
                f,
                "{} resolves to a private address; add its origin to trusted_origins if this is intended",
                self.host
            ),
        }
    }
}

impl Error for AddressRefused {}
