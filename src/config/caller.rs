//! `callers`: who may call, how callers are recognised, and what they may read. The configuration holds the names of token
//! files, never tokens, so that tokens can be rotated.

use std::{collections::BTreeSet, path::PathBuf};

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
        Ok(Self { identity, allow: keys.allow })
    }
}

impl From<Caller> for Keys {
    fn from(Caller { identity, allow }: Caller) -> Self {
        let keys = Self { token_file: None, certificate_names: None, anonymous: None, allow };
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
