//! `registries`: how one registry is reached, and with which identity.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::address::{RegistryUrl, WebOrigin};
use super::cache_shared::RegistryFleet;
use super::credentials::Credentials;
use super::duration;
use super::header::HeaderText;

/// The registries that need no configuration: public, and useful without credentials.
const WELL_KNOWN: [&str; 7] =
    ["docker.io", "ghcr.io", "quay.io", "gcr.io", "registry.k8s.io", "public.ecr.aws", "mcr.microsoft.com"];

/// How to reach one registry. All keys are optional: the default is `https://NAME` without signing in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// Address of the registry: http or https, a host, and optionally a port and a path prefix. Absent: https://NAME.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<RegistryUrl>,
    /// PEM file with certificate authorities to trust for this registry, besides the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "file"))]
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client certificate to present. Goes with `client_key_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "file"))]
    pub client_cert_file: Option<PathBuf>,
    /// PEM file with the private key of `client_cert_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "file"))]
    pub client_key_file: Option<PathBuf>,
    /// HTTP proxy for this registry, scheme, host and port. Proxy variables of the environment are not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<WebOrigin>,
    /// User name for the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_username: Option<String>,
    /// File with the password for the proxy. Needs `proxy_username`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "file"))]
    pub proxy_password_file: Option<PathBuf>,
    /// HTTP version: auto uses HTTP/2 where the registry offers it; "1.1" always uses HTTP/1.1.
    pub http: HttpVersion,
    /// Extra request headers, sent to this registry's own origin only.
    #[schemars(extend("propertyNames" = {"format": "header-name"}))]
    pub headers: BTreeMap<String, HeaderText>,
    /// Time to connect, TLS included.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub connect_timeout: Duration,
    /// Time from sending the request to receiving the response headers.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub header_timeout: Duration,
    /// Longest pause between two reads of a response body.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub idle_timeout: Duration,
    /// Longest time for the whole body of a response that is not a blob: a manifest, a page of a list, a token.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub body_timeout: Duration,
    /// Credentials to sign in with. Absent: the entries of the top-level `docker_configs` that match this registry, or no
    /// sign-in.
    // `with` excludes null: an empty `credentials:` is more likely a lost value than a choice not to sign in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Credentials")]
    pub credentials: Option<Credentials>,
    /// Origins of token services, besides the registry's own, that may receive these credentials.
    pub token_realms: Vec<WebOrigin>,
    /// Origins that this registry may redirect to even though their addresses are private.
    pub trusted_origins: Vec<WebOrigin>,
    /// Names of query parameters that the registry's links to the next page of a list may have, besides the usual ones such
    /// as `n`, `last` and `next_page`. A page token carries them and can be forged. So name only parameters that choose a
    /// part of the list. `ns` is never allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(pattern("^[A-Za-z0-9_.-]{1,64}$")))]
    pub page_parameters: Vec<String>,
    /// Age up to which a response that was kept is given when this registry does not respond (no connection, status 5xx or 429),
    /// but no older than the call's `max_age`. 0s: never. The response's metadata says `rexd-cache: stale`.
    #[serde(with = "duration::or_zero")]
    #[schemars(schema_with = "duration::or_zero::schema")]
    pub stale_if_error: Duration,
    /// Most requests to this registry at the same time, except requests for blobs. Further calls wait, each caller's in turn.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_concurrent_requests: usize,
    /// Most requests for blobs of this registry at the same time. A request lasts until the blob is read.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_concurrent_blobs: usize,
    /// What all replicas together may do to this registry. Needs `cache.shared`.
    #[serde(skip_serializing_if = "RegistryFleet::is_unlimited")]
    pub fleet: RegistryFleet,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            url: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            proxy: None,
            proxy_username: None,
            proxy_password_file: None,
            http: HttpVersion::Auto,
            headers: BTreeMap::new(),
            connect_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            credentials: None,
            token_realms: Vec::new(),
            trusted_origins: Vec::new(),
            page_parameters: Vec::new(),
            stale_if_error: Duration::ZERO,
            // 640 requests a second at 100 ms each: several for each of hundreds of callers. HTTP/2 servers admit at least
            // 100 streams on a connection (RFC 9113 section 6.5.2), so that none of them waits for a stream.
            max_concurrent_requests: 64,
            // A reader at 1 MiB/s is a normal one and may stay for minutes, so there is room for hundreds of them. Half of
            // `limits.max_streams`: the readers of one registry leave streams for those of others.
            max_concurrent_blobs: 500,
            fleet: RegistryFleet::default(),
        }
    }
}

pub(super) fn well_known() -> BTreeMap<String, Registry> {
    WELL_KNOWN.iter().map(|name| ((*name).to_owned(), Registry::default())).collect()
}

/// Reads `registries`, where `ghcr.io:` with nothing after it (null in YAML) is the shortest way to list a registry.
pub(super) fn map<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Registry>, D::Error> {
    let entries = BTreeMap::<String, Option<Registry>>::deserialize(deserializer)?;
    Ok(entries.into_iter().map(|(name, registry)| (name, registry.unwrap_or_default())).collect())
}

/// The HTTP version to speak to a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/2 where TLS negotiation offers it, else HTTP/1.1.
    Auto,
    /// HTTP/1.1 only, for proxies and registries whose HTTP/2 is broken.
    Http11,
}

impl Serialize for HttpVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Auto => "auto",
            Self::Http11 => "1.1",
        })
    }
}

impl<'de> Deserialize<'de> for HttpVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == "auto" => Ok(Self::Auto),
            Value::String(text) if text == "1.1" => Ok(Self::Http11),
            // YAML reads an unquoted 1.1 as a number.
            Value::Number(number) if number.as_f64() == Some(1.1) => Ok(Self::Http11),
            _ => Err(serde::de::Error::custom("must be auto or \"1.1\"")),
        }
    }
}

impl JsonSchema for HttpVersion {
    fn schema_name() -> Cow<'static, str> {
        "HttpVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"enum": ["auto", "1.1", 1.1]})
    }
}
