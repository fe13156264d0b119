//! How to reach one registry: certificates, proxy, timeouts, trusted origins.

use std::{path::PathBuf, time::Duration};

use http::HeaderMap;
use url::Url;

use super::{egress::Origin, fleet::FleetSettings};

/// How to reach one registry, and which other origins its traffic may go to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether the configuration lists this registry. Only then may its own origin have a private address.
    pub listed: bool,
    /// Certificates to trust besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// A certificate and a key to present to the registry, PEM.
    pub client_certificate: Option<ClientCertificate>,
    /// A forward proxy for everything sent to this registry.
    pub proxy: Option<Proxy>,
    /// Never offer HTTP/2. For registries behind proxies that break it.
    pub http1_only: bool,
    /// Headers for every request to the registry's own origin. They may be secrets.
    pub headers: HeaderMap,
    /// Token services, besides the registry's own origin, that may receive the credentials.
    pub token_realms: Vec<Origin>,
    /// Origins that a redirect may lead to although their addresses are private.
    pub trusted_origins: Vec<Origin>,
    /// The most requests in flight at once, bodies included, except requests for blobs.
    pub max_concurrent_requests: usize,
    /// The most requests for blobs in flight at once, bodies included.
    pub max_concurrent_blobs: usize,
    /// Limit for a connection, TLS included.
    pub connect_timeout: Duration,
    /// Limit for the head of a response, the connection included.
    pub header_timeout: Duration,
    /// Limit for the next bytes of a body.
    pub idle_timeout: Duration,
    /// Limit for the whole body of a response that is read into memory: everything except a blob.
    pub body_timeout: Duration,
    /// The most bytes of a token response or an error body.
    pub auth_body_bytes: usize,
    /// What other replicas know of this registry. Absent: this replica is alone.
    pub fleet: Option<FleetSettings>,
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

/// Why a registry cannot be set up. The message names the registry and the file.
#[derive(Debug, thiserror::Error)]
#[error("{registry}: {problem}")]
pub struct SetupError {
    /// The registry.
    pub registry: String,
    /// What is wrong, and where.
    pub problem: String,
}
