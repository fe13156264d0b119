//! Classes of IP addresses: which ones a registry, or a caller, may make the service connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The class of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressClass {
    /// Reachable from everywhere.
    Public,
    /// Loopback, link-local, private, unique-local, shared, multicast or reserved.
    Private,
    /// A cloud metadata service, which gives credentials to every client that can reach it.
    Metadata,
}

impl AddressClass {
    /// Classifies an address. An IPv6 address that embeds an IPv4 address has the class of the IPv4 address.
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
            // IPv4-mapped, IPv4-translated (RFC 2765), NAT64 (RFC 6052): the IPv4 address that packets reach.
            [0, 0, 0, 0, 0, 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
            // IPv4-compatible; `::` and `::1` have `g == 0` and stay private.
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
