//! The egress guard: where a request may go, and who may receive credentials. Pure, and a resolver hook.
//!
//! Two questions, asked of every URL before anything is sent, redirects and token realms included:
//!
//! 1. May it be reached? An origin the operator named (the registry's own, `token_realms`, `trusted_origins`) may be
//!    private. Every other origin must be https and lead to public addresses only. Addresses of cloud metadata services
//!    are never reached, whoever named them.
//! 2. May it receive the registry's credentials? Only the registry's own origin, its known token service, and
//!    `token_realms`. Nothing is guessed from domain suffixes (CVE-2026-33540, CVE-2026-48978).
//!
//! Literal addresses are judged on the parsed host, because they skip the resolver; the WHATWG URL parser has by then
//! turned `2130706433`, `127.1` and `0x7f.1` into addresses. Names are judged on every answer of the resolver, at the
//! moment of connecting, so that a name which changes its mind gets nowhere.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::oci::ParseError;

/// A scheme, a host and a port: what credentials belong to (RFC 6454).
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

    fn is_https(&self) -> bool {
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
            return Err(ParseError("is more than an origin: only scheme, host and port are meant"));
        }
        Self::of(&url).ok_or(ParseError("is not an http or https origin"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// What an address is, for the question whether a registry may make us connect to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressClass {
    /// Reachable from everywhere.
    Public,
    /// Loopback, link-local, private, unique-local, shared, multicast, reserved: ours or nobody's.
    Private,
    /// Hands out cloud credentials to whoever asks.
    Metadata,
}

impl AddressClass {
    /// Classifies an address; addresses that embed an IPv4 address are what that one is.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        const METADATA: [Ipv4Addr; 6] = [
            Ipv4Addr::new(169, 254, 169, 254), // AWS, Google Cloud, Azure, OpenStack, DigitalOcean
            Ipv4Addr::new(169, 254, 170, 2),   // AWS ECS task roles
            Ipv4Addr::new(169, 254, 170, 23),  // AWS EKS pod identity
            Ipv4Addr::new(100, 100, 100, 200), // Alibaba Cloud
            Ipv4Addr::new(168, 63, 129, 16),   // Azure WireServer
            Ipv4Addr::new(192, 0, 0, 192),     // Oracle Cloud
        ];
        if METADATA.contains(&address) {
            return Self::Metadata;
        }
        // IANA IPv4 Special-Purpose Address Registry: everything that is not globally reachable.
        let private = match address.octets() {
            [0 | 10 | 127, ..] | [192, 168, ..] | [169, 254, ..] | [198, 18 | 19, ..] => true,
            [100, b, ..] => (64..=127).contains(&b),
            [172, b, ..] => (16..=31).contains(&b),
            [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
            [a, ..] => a >= 224,
        };
        if private { Self::Private } else { Self::Public }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        const METADATA: [Ipv6Addr; 3] = [
            Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254), // AWS
            Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0023), // AWS EKS pod identity
            Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254), // Google Cloud
        ];
        if METADATA.contains(&address) {
            return Self::Metadata;
        }
        let [a, b, c, d, e, f, g, h] = address.segments();
        let v4 = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Self::of_v4(Ipv4Addr::new(a, b, c, d))
        };
        match [a, b, c, d, e, f] {
            // IPv4-mapped, IPv4-translated (RFC 2765), NAT64 (RFC 6052): the address that is really meant.
            [0, 0, 0, 0, 0, 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
            // IPv4-compatible; `::` and `::1` are among them and stay private.
            [0, 0, 0, 0, 0, 0] if g != 0 => v4(g, h),
            // 6to4 (RFC 3056).
            [0x2002, high, low, ..] => v4(high, low),
            // Global unicast, less Teredo and ORCHID (2001::/23), documentation (2001:db8::/32, 3fff::/20).
            [0x2001, b, ..] if b < 0x0200 || b == 0x0db8 => Self::Private,
            [0x3fff, b, ..] if b < 0x1000 => Self::Private,
            [a, ..] if (0x2000..0x4000).contains(&a) => Self::Public,
            _ => Self::Private,
        }
    }
}

/// What the guard says of a URL it lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// The registry's own origin, when the operator listed it: private addresses are fine, and it alone sees the client
    /// certificate.
    Registry,
    /// The operator named this origin: private addresses are fine.
    Named,
    /// Anyone may have named it: public addresses only.
    Foreign,
}

impl Admission {
    /// The same for one hop of a chain of redirects: one that has left the registry's origin does not come back to it as
    /// the registry's own.
    pub(super) fn of_chain(self, own: bool) -> Self {
        match self {
            Self::Registry if !own => Self::Named,
            admission => admission,
        }
    }
}

/// The origins that one registry's traffic may touch.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    registry: Origin,
    listed: bool,
    credential_origins: Vec<Origin>,
    trusted_origins: Vec<Origin>,
}

impl Guard {
    pub(super) fn new(
        registry: Origin,
        listed: bool,
        token_realms: Vec<Origin>,
        trusted: Vec<Origin>,
    ) -> Self {
        Self { registry, listed, credential_origins: token_realms, trusted_origins: trusted }
    }

    /// Whether `url` is the registry itself, which alone sees its tokens and its extra headers.
    pub(super) fn is_registry(&self, url: &Url) -> bool {
        Origin::of(url).is_some_and(|origin| origin == self.registry)
    }

    /// Whether a token service at `url` may receive the registry's credentials.
    pub(super) fn may_receive_credentials(&self, url: &Url) -> bool {
        Origin::of(url)
            .is_some_and(|origin| origin == self.registry || self.credential_origins.contains(&origin))
    }

    /// Whether `url` may be reached; the error says which rule refuses it.
    pub(super) fn admit(&self, url: &Url) -> Result<Admission, String> {
        let origin = Origin::of(url).ok_or("only http and https addresses are followed")?;
        let class = match &origin.host {
            Host::Ipv4(address) => Some(AddressClass::of((*address).into())),
            Host::Ipv6(address) => Some(AddressClass::of((*address).into())),
            Host::Domain(_) => None,
        };
        if class == Some(AddressClass::Metadata) {
            return Err(format!("{origin} is a cloud metadata address"));
        }
        if self.listed && origin == self.registry {
            return Ok(Admission::Registry);
        }
        if self.credential_origins.contains(&origin) || self.trusted_origins.contains(&origin) {
            return Ok(Admission::Named);
        }
        if !origin.is_https() {
            return Err(format!("{origin} is not https, and not an origin that the configuration names"));
        }
        if class == Some(AddressClass::Private) {
            return Err(format!("{origin} is a private address; add it to trusted_origins if it is meant"));
        }
        Ok(Admission::Foreign)
    }
}

/// Resolves names and drops every address that the connection may not use.
#[derive(Debug)]
pub(super) struct GuardedResolver {
    /// The one host that may be private although the connection is a foreign one: the forward proxy.
    pub(super) proxy_host: Option<String>,
    /// Whether this is for origins the operator named.
    pub(super) admission: Admission,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let named = self.admission != Admission::Foreign || self.proxy_host.as_deref() == Some(host.as_str());
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let allowed = filter(&host, addresses, named)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// The addresses that may be used; an error when there were some and none may.
fn filter(
    host: &str,
    addresses: impl Iterator<Item = SocketAddr>,
    named: bool,
) -> Result<Vec<SocketAddr>, AddressRefused> {
    let mut refused = None;
    let mut allowed = Vec::new();
    for address in addresses {
        match AddressClass::of(address.ip()) {
            AddressClass::Public => allowed.push(address),
            AddressClass::Private if named => allowed.push(address),
            class @ (AddressClass::Private | AddressClass::Metadata) => refused = Some(class),
        }
    }
    match refused {
        Some(class) if allowed.is_empty() => Err(AddressRefused { host: host.to_owned(), class }),
        _ => Ok(allowed),
    }
}

/// A name resolved to addresses that may not be used, and to no others.
#[derive(Debug)]
pub(super) struct AddressRefused {
    host: String,
    class: AddressClass,
}

impl fmt::Display for AddressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.class {
            AddressClass::Metadata => write!(f, "{} resolves to a cloud metadata address", self.host),
            AddressClass::Private | AddressClass::Public => write!(
                f,
                "{} resolves to a private address; add its origin to trusted_origins if it is meant",
                self.host
            ),
        }
    }
}

impl Error for AddressRefused {}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;
