//! What the operator says about one registry, as this layer needs it.

use std::{path::PathBuf, time::Duration};

use http::HeaderMap;
use url::Url;

use super::egress::Origin;
use crate::oci::Registry;

/// How to reach one registry, and what it may be given.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The registry's canonical name.
    pub registry: Registry,
    /// Where its API is; a path, if any, stands before `/v2/`.
    pub url: Url,
    /// Whether the operator named this registry: its own origin may then be private.
    pub listed: bool,
    /// Certificates to trust beside the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// A certificate and a key to show to the registry, PEM.
    pub client_certificate: Option<ClientCertificate>,
    /// A forward proxy for everything sent to this registry.
    pub proxy: Option<Proxy>,
    /// Never offer HTTP/2, for registries behind proxies that break it.
    pub http1_only: bool,
    /// Headers for every request to the registry's own origin; they may be secrets.
    pub headers: HeaderMap,
    /// Where credentials come from; the first source that has some for a repository wins.
    pub credentials: Vec<CredentialSource>,
    /// Token services, besides the registry's own origin, that may receive the credentials.
    pub token_realms: Vec<Origin>,
    /// Origins that a redirect may lead to though their addresses are private.
    pub trusted_origins: Vec<Origin>,
    /// How many requests may be under way at once, bodies included.
    pub max_concurrent_requests: usize,
    /// For a connection, TLS included.
    pub connect_timeout: Duration,
    /// For the head of an answer, the connection included.
    pub header_timeout: Duration,
    /// For the next bytes of a body.
    pub idle_timeout: Duration,
    /// The most bytes of a token answer or an error body.
    pub auth_body_bytes: usize,
}

/// Where Docker Hub's API is; image references name another host.
const DOCKER_HUB_API: &str = "https://registry-1.docker.io";

impl Settings {
    /// Where a registry's API is when nobody says otherwise: `https://<name>`, and Docker Hub's own host.
    pub fn default_url(registry: &Registry) -> Result<Url, url::ParseError> {
        if registry.is_docker_hub() {
            Url::parse(DOCKER_HUB_API)
        } else {
            Url::parse(&format!("https://{registry}"))
        }
    }
}

/// A TLS client certificate.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The chain, PEM.
    pub cert_file: PathBuf,
    /// The key, PEM.
    pub key_file: PathBuf,
}

/// A forward proxy: plain requests for `http`, CONNECT for `https`.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Where it is, `http://host:port`.
    pub url: Url,
    /// A user name and the file that holds the password.
    pub credentials: Option<(String, PathBuf)>,
}

/// Where credentials come from. Files are read at start, and again when they change.
#[derive(Debug, Clone)]
pub enum CredentialSource {
    /// A user name, and a file that holds the password.
    Password {
        /// The user name.
        username: String,
        /// The file; one trailing line break is not part of the password.
        password_file: PathBuf,
    },
    /// A file that holds a bearer token, which is sent as it is.
    Token {
        /// The file; one trailing line break is not part of the token.
        token_file: PathBuf,
    },
    /// A docker `config.json` or Kubernetes `.dockerconfigjson`.
    DockerConfig {
        /// The file.
        file: PathBuf,
    },
}

/// Why a registry cannot be set up; names the registry and the file.
#[derive(Debug, thiserror::Error)]
#[error("{registry}: {problem}")]
pub struct SetupError {
    /// The registry.
    pub registry: String,
    /// What is wrong, and where.
    pub problem: String,
}
