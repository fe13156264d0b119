//! The name of a registry as in an image reference: `host` or `host:port`.

use std::{fmt, str::FromStr};

use super::ParseError;

/// The longest name: a DNS name has at most 253 characters (RFC 1035), a port adds a colon and five digits.
const MAX_LENGTH: usize = 253 + 6;

/// Docker Hub's name, and the host names that people also use for it.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_ALIASES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// A registry's canonical name: in lower case, and `docker.io` for each of Docker Hub's aliases.
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
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        if port.is_some_and(|port| !is_port(port)) {
            return Err(ParseError("has a port that is not a number from 1 to 65535"));
        }
        if !is_ipv6_literal(host) && !is_domain(host) {
            return Err(ParseError("is not a host name, optionally with a port, as in an image reference"));
        }
        let name = text.to_ascii_lowercase();
        let hub = DOCKER_HUB_ALIASES.contains(&name.as_str());
        Ok(Self(if hub { DOCKER_HUB.to_owned() } else { name }))
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

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
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
