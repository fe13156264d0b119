//! The top level of the configuration.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::caller::Caller;
use super::limits::Limits;
use super::log::Log;
use super::registry::{self, Registry};

/// The whole configuration of the service. [`Config::default`] is what runs without any: the well-known public
/// registries, anonymous, on loopback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "rexd configuration")]
pub struct Config {
    /// Address and port of the gRPC listener, for example 127.0.0.1:50051, or 0.0.0.0:50051 for all interfaces.
    #[schemars(extend("format" = "socket-address"))]
    pub listen: SocketAddr,
    /// Address and port of the plain HTTP listener for /livez and /readyz. null turns it off.
    #[schemars(extend("format" = "socket-address"))]
    pub ops_listen: Option<SocketAddr>,
    /// The registry that a request with an empty `registry` uses. Must be listed in `registries`, unless `allow_unlisted`
    /// is true. Absent or null: docker.io without `registries`, the only registry where `registries` lists one, else none.
    #[schemars(extend("format" = "registry-name"))]
    pub default_registry: Option<String>,
    /// Whether callers may also reach public https registries that are not listed here.
    pub allow_unlisted: bool,
    /// Docker config.json or .dockerconfigjson files. Each listed registry uses the entries whose keys match it, by the
    /// kubelet's matching rules.
    #[schemars(extend("items" = {"type": "string", "format": "file"}))]
    pub docker_configs: Vec<PathBuf>,
    /// TLS of the gRPC listener. Absent: the listener speaks plaintext HTTP/2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The registries callers may reach, by the name used in image references (host, or host:port). Replaces the
    /// default list; a value may be null or {}.
    #[serde(deserialize_with = "registry::map")]
    #[schemars(with = "BTreeMap<String, Option<Registry>>")]
    #[schemars(extend("propertyNames" = {"format": "registry-name"}))]
    pub registries: BTreeMap<String, Registry>,
    /// Who may call the service, and what each caller may read. Absent: everyone who can connect may read whatever the
    /// service may. Present: only these callers may call, and each reads only what `allow` grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BTreeMap<String, Caller>")]
    #[schemars(extend("propertyNames" = {"format": "caller-name"}, "minProperties" = 1))]
    pub callers: Option<BTreeMap<String, Caller>>,
    /// Limits on what one caller, or all callers together, can use.
    pub limits: Limits,
    /// What is kept of what was read from registries.
    pub cache: Cache,
    /// What is logged, and how.
    pub log: Log,
}

/// TLS of the gRPC listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the server's certificate chain, its own certificate first.
    #[schemars(extend("format" = "file"))]
    pub cert_file: PathBuf,
    /// PEM file with the private key of the certificate.
    #[schemars(extend("format" = "file"))]
    pub key_file: PathBuf,
    /// PEM file with the authorities of client certificates. If set, every client must present a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "file"))]
    pub client_ca_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 50051)),
            ops_listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9090))),
            default_registry: Some("docker.io".to_owned()),
            allow_unlisted: false,
            docker_configs: Vec::new(),
            tls: None,
            registries: registry::well_known(),
            callers: None,
            limits: Limits::default(),
            cache: Cache::default(),
            log: Log::default(),
        }
    }
}
