//! `cache`: what is kept of what was read, and for how long.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cache_shared::CacheShared;
use super::cache_store::CacheStore;
use super::duration;

/// What is kept, and for how long. With the defaults, no caller gets a tag or a list that is older than its call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Most bytes of manifests, lists and small blobs that are kept in memory. They are kept besides `limits.memory_bytes`. 0
    /// keeps nothing in memory.
    #[schemars(range(max = 1_099_511_627_776_u64))]
    pub memory_bytes: u64,
    /// Age up to which a tag is given without asking the registry, unless the call has a `max_age`. With 0s, the registry is
    /// asked at each call with a HEAD, which does not count as a pull.
    #[serde(with = "duration::or_zero")]
    #[schemars(schema_with = "duration::or_zero::schema")]
    pub tags: Duration,
    /// Age up to which a page of a list is given without asking the registry, unless the call has a `max_age`.
    #[serde(with = "duration::or_zero")]
    #[schemars(schema_with = "duration::or_zero::schema")]
    pub lists: Duration,
    /// Time for which something that the registry does not have counts as absent.
    #[serde(with = "duration::or_zero")]
    #[schemars(schema_with = "duration::or_zero::schema")]
    pub absent: Duration,
    /// Time for which a credential that has read something counts as allowed to read it. After that, the registry is asked
    /// again with a HEAD. Also the longest age that a call can choose with `max_age`.
    #[serde(with = "duration::or_zero")]
    #[schemars(schema_with = "duration::or_zero::schema")]
    pub access_check: Duration,
    /// A directory or a bucket that keeps blobs.
    pub store: CacheStore,
    /// The engine that all replicas share. Absent: each replica reads and keeps for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CacheShared")]
    pub shared: Option<CacheShared>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            // A quarter of a small pod's 256 MiB: some ten thousand manifests.
            memory_bytes: 64 * 1024 * 1024,
            tags: Duration::ZERO,
            lists: Duration::ZERO,
            absent: Duration::ZERO,
            // As long as the tokens of most registries, which also let in whoever had access a few minutes ago.
            access_check: Duration::from_secs(5 * 60),
            store: CacheStore::default(),
            shared: None,
        }
    }
}
