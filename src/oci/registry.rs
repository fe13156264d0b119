//! The name of a registry as in an image reference: `host` or `host:port`.

use std::{fmt, str::FromStr};

use super::ParseError;

/// The longest name: a DNS name has at most 253 characters (RFC 1035), a port adds a colon and five digits.
const MAX_LENGTH: usize = 253 + 6;

/// Docker Hub's name, and the host names that people also use for it.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_ALIASES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// The port of https (RFC 9110, section 4.2.2). A registry's default URL is `https://<name>`, so a name with this port means
/// the same registry as the name without it.
const DEFAULT_PORT: u16 = 443;

/// A registry's canonical name: lower case, the port without leading zeros and left out if it is 443, and Docker Hub's aliases
/// folded into `docker.io`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Registry(String);

impl Registry {
    /// The canonical name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is Docker Hub, where a repository name without a slash means one in `library/`.
    #[must_use]
    pub fn is_docker_hub(&self) -> bool {
        self.0 == DOCKER_HUB
    }
}

impl FromStr for Registry {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError("is empty"));
        }
        if text.len() > MAX_LENGTH {
            return Err(ParseError("is longer than 259 characters"));
        }
        let (host, port) = match split_port(text) {
            Some((host, port)) => {
                let port =
                    parse_port(port).ok_or(ParseError("has a port that is not a number from 1 to 65535"))?;
                (host, Some(port))
            }
            None => (text, None),
        };
        if !is_ipv6_literal(host) && !is_domain(host) {
            return Err(ParseError("is not a host name, optionally with a port, as in an image reference"));
        }
        let host = host.to_ascii_lowercase();
        Ok(Self(match port.filter(|port| *port != DEFAULT_PORT) {
            Some(port) => format!("{host}:{port}"),
            None if DOCKER_HUB_ALIASES.contains(&host.as_str()) => DOCKER_HUB.to_owned(),
            None => host,
        }))
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Splits at the colon before a port. Colons inside `[…]` belong to the address.
fn split_port(text: &str) -> Option<(&str, &str)> {
    text.rsplit_once(':').filter(|(_, port)| !port.contains(']'))
}

/// Only digits: `u16` also parses a plus sign.
fn parse_port(port: &str) -> Option<u16> {
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|port| digits && *port > 0)
}

fn is_ipv6_literal(host: &str) -> bool {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

/// `domain-component ["." domain-component]*` of the reference grammar: letters, digits and inner hyphens.
fn is_domain(host: &str) -> bool {
    host.split('.').all(|component| {
        !component.is_empty()
            && component.len() <= 63
            && !component.starts_with('-')
            && !component.ends_with('-')
            && component.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_port_and_leading_zeros_do_not_make_another_registry() {
        for (text, canonical) in [
            ("ghcr.io", "ghcr.io"),
            ("GHCR.io:443", "ghcr.io"),
            ("ghcr.io:0443", "ghcr.io"),
            ("ghcr.io:05000", "ghcr.io:5000"),
            ("ghcr.io:80", "ghcr.io:80"),
            ("ghcr.io:4430", "ghcr.io:4430"),
            ("localhost:443", "localhost"),
            ("[::1]:443", "[::1]"),
            ("[::1]:00080", "[::1]:80"),
            ("[fe80::443]", "[fe80::443]"),
            ("docker.io:443", "docker.io"),
            ("index.docker.io:443", "docker.io"),
            ("registry-1.docker.io:0443", "docker.io"),
            ("docker.io:5000", "docker.io:5000"),
            ("index.docker.io:5000", "index.docker.io:5000"),
        ] {
            let parsed = text.parse::<Registry>();
            assert_eq!(parsed.as_ref().map(Registry::as_str), Ok(canonical), "{text}");
        }
        for text in
            ["ghcr.io:", "ghcr.io:0", "ghcr.io:000", "ghcr.io:+443", "ghcr.io:65979", "ghcr.io:443:443"]
        {
            assert!(text.parse::<Registry>().is_err(), "{text}");
        }
    }
}
