//! `cache.shared`: the engine that the replicas of a fleet share, and `registries.<name>.fleet`: what all of them together may do.

use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The engine that all replicas share: Redis or Valkey. A replica whose engine is away goes on alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheShared {
    /// Where the engine is: redis://host:port, redis://host:port/database,
    /// redis+sentinel://host:port,host:port/master or redis+cluster://host:port,host:port. rediss instead of redis is the same
    /// over TLS. It holds no user name and no password.
    #[schemars(extend("format" = "engine-url", "pattern" = "^rediss?([+](sentinel|cluster))?://"))]
    pub url: String,
    /// ACL user of the engine. Absent: the default user. Needs `password_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub username: Option<String>,
    /// File with the password. It is read again when it changes. Sentinels that require a password get the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "file"))]
    pub password_file: Option<PathBuf>,
    /// PEM file with the certificate authorities of the engine, to trust instead of the system's. It is read again when it
    /// changes. Needs a `url` with TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "file"))]
    pub ca_file: Option<PathBuf>,
    /// First part of every key in the engine. Fleets with the same prefix share what they read; give fleets that must not, or
    /// that use other credentials, prefixes of their own.
    #[serde(default = "default_prefix")]
    #[schemars(extend("pattern" = "^[A-Za-z0-9._:-]{1,64}$"))]
    pub prefix: String,
}

fn default_prefix() -> String {
    "rexd".to_owned()
}

/// What all replicas together may do to a registry. Without `cache.shared`, or while its engine is away, each replica goes on
/// alone, within `max_concurrent_requests` of the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryFleet {
    /// Most requests that all replicas together send to this registry in a second, evenly spaced. Absent: as many as they like.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 100_000))]
    pub requests_per_second: Option<NonZeroU32>,
    /// Most requests of all replicas together to this registry at the same time, except requests for blobs. Absent: as many
    /// as they like.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 100_000))]
    pub max_concurrent_requests: Option<NonZeroU32>,
}

impl RegistryFleet {
    /// Whether there is no limit.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_keys_have_their_defaults_and_unknown_ones_are_refused() {
        let shared: CacheShared = serde_json::from_str(r#"{"url": "redis://engine"}"#).unwrap();
        let expected = CacheShared {
            url: "redis://engine".to_owned(),
            username: None,
            password_file: None,
            ca_file: None,
            prefix: "rexd".to_owned(),
        };
        assert_eq!(shared, expected);
        assert!(serde_json::from_str::<CacheShared>("{}").is_err());
        assert!(
            serde_json::from_str::<CacheShared>(r#"{"url": "redis://engine", "password": "x"}"#).is_err()
        );
        let fleet: RegistryFleet = serde_json::from_str(r#"{"requests_per_second": 5}"#).unwrap();
        assert_eq!(fleet.requests_per_second.map(u32::from), Some(5));
        assert_eq!(fleet.max_concurrent_requests, None);
        assert!(serde_json::from_str::<RegistryFleet>(r#"{"requests_per_second": 0}"#).is_err());
    }
}
