//! `callers`: who may call, how callers are recognised, what they may read, and how much. The configuration holds the names of token
//! files, never tokens, so that tokens can be rotated.

use std::{
    collections::BTreeSet,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::address::is_dns_name;
use crate::policy::Grant;

/// A caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Keys", into = "Keys")]
pub struct Caller {
    /// How the caller is recognised.
    pub identity: CallerIdentity,
    /// What the caller may read, as the text of [`Grant`]s; never empty.
    pub allow: Vec<String>,
    /// How much the caller may use.
    pub limits: CallerLimits,
}

/// How much a caller may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CallerLimits {
    /// Most StreamBlob calls at the same time. Further ones fail with RESOURCE_EXHAUSTED.
    // `with` excludes null in all of them: an empty `max_streams:` is more likely a lost value than a choice of no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 1_000_000))]
    pub max_streams: Option<NonZeroU32>,
    /// Most calls at the same time, StreamBlob included. Further ones fail with RESOURCE_EXHAUSTED.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 1_000_000))]
    pub max_calls: Option<NonZeroU32>,
    /// Most calls that begin in a second. After a pause, as many may begin at once. Further ones fail with
    /// RESOURCE_EXHAUSTED.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 1_000_000))]
    pub requests_per_second: Option<NonZeroU32>,
    /// Most bytes of blobs that are sent in a second, over all streams of the caller. This limit makes streams slower and
    /// fails none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64", range(min = 1024, max = 1_099_511_627_776_u64))]
    pub bytes_per_second: Option<NonZeroU64>,
}

impl CallerLimits {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How a caller is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerIdentity {
    /// By a bearer token on a line of the file.
    TokenFile(PathBuf),
    /// By a client certificate with one of these names; never empty.
    CertificateNames(BTreeSet<String>),
    /// By having no credentials.
    Anonymous,
}

/// The keys of a caller as written. See `Credentials` for why this is a struct.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["token_file"]},
    {"required": ["certificate_names"]},
    {"required": ["anonymous"]},
]))]
struct Keys {
    /// File with the caller's tokens, one on each line. The caller sends one of them as `authorization: Bearer TOKEN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "file"))]
    token_file: Option<PathBuf>,
    /// DNS names or URIs (SPIFFE IDs). The caller's certificate must have one of them as subject alternative name. Needs
    /// `tls.client_ca_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "certificate_names")]
    certificate_names: Option<BTreeSet<String>>,
    /// true: this entry is for calls with neither a token nor the certificate of another caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "only_true")]
    anonymous: Option<bool>,
    /// What the caller may read: `ghcr.io` grants a registry with its catalog, `ghcr.io/org/` all repositories below
    /// org, `ghcr.io/org/app` one repository, and "*" whatever the service may read.
    #[schemars(schema_with = "grants")]
    allow: Vec<String>,
    /// How much the caller may use, over all of its calls to one process. Without a limit, it shares what the service has.
    #[serde(default, skip_serializing_if = "CallerLimits::is_empty")]
    limits: CallerLimits,
}

impl TryFrom<Keys> for Caller {
    type Error = &'static str;

    fn try_from(keys: Keys) -> Result<Self, Self::Error> {
        let identity = match (keys.token_file, keys.certificate_names, keys.anonymous) {
            (Some(file), None, None) => CallerIdentity::TokenFile(file),
            (None, Some(names), None) => CallerIdentity::CertificateNames(names),
            (None, None, Some(true)) => CallerIdentity::Anonymous,
            _ => return Err("needs exactly one of token_file, certificate_names, anonymous"),
        };
        Ok(Self { identity, allow: keys.allow, limits: keys.limits })
    }
}

impl From<Caller> for Keys {
    fn from(Caller { identity, allow, limits }: Caller) -> Self {
        let keys = Self { token_file: None, certificate_names: None, anonymous: None, allow, limits };
        match identity {
            CallerIdentity::TokenFile(file) => Self { token_file: Some(file), ..keys },
            CallerIdentity::CertificateNames(names) => Self { certificate_names: Some(names), ..keys },
            CallerIdentity::Anonymous => Self { anonymous: Some(true), ..keys },
        }
    }
}

fn only_true(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "boolean", "enum": [true]})
}

fn certificate_names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "string", "format": "certificate-name"}, "minItems": 1, "uniqueItems": true})
}

fn grants(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "string", "format": "grant"}, "minItems": 1})
}

/// Whether a text is a grant; the error is a sentence about the text.
pub(super) fn check_grant(text: &str) -> Result<(), String> {
    let example =
        "must be a registry, a registry/prefix/ that ends in a slash, a registry/repository, or \"*\"";
    text.parse::<Grant>().map(drop).map_err(|problem| format!("{example}; it {problem}"))
}

/// Whether a text can be the subject alternative name of a client: a DNS name, or a URI.
pub(super) fn check_certificate_name(text: &str) -> Result<(), String> {
    let is_uri = text.contains("://") && url::Url::parse(text).is_ok();
    if is_uri || is_dns_name(text) {
        return Ok(());
    }
    Err("must be a DNS name in lower case, without a wildcard, or a URI such as spiffe://cluster.local/ns/ci/sa/build".to_owned())
}

/// Whether a text can name a caller: in logs, in messages, and as an environment variable's part.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let is_valid = (1..=63).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'));
    if is_valid {
        Ok(())
    } else {
        Err("must be a name of 1 to 63 characters of a-z, 0-9, '-', '.' and '_'".to_owned())
    }
}
