//! `limits`: what one caller, or all callers together, can use. Nothing in the service grows past these limits.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;

/// Sizes in bytes, counts, and times. Each is greater than zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest manifest accepted from a registry, in bytes. The Distribution Specification asks for at least 4 MiB.
    #[schemars(range(min = 1024, max = 67_108_864))]
    pub manifest_bytes: usize,
    /// Largest page of a catalog or tag list accepted from a registry, in bytes.
    #[schemars(range(min = 1024, max = 67_108_864))]
    pub list_page_bytes: usize,
    /// Largest response accepted from a token service, and the most that is read of an error response, in bytes.
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub auth_body_bytes: usize,
    /// Most upstream pages that one listing follows. A listing with more pages is an error; it is never cut short.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_pages: u32,
    /// Most blob streams at the same time, over all connections.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_streams: usize,
    /// Memory that all calls together may hold, in bytes: requests that arrive, documents that are read from registries,
    /// responses until their last byte has left, blob streams. The default is half of the memory limit of the process' cgroup,
    /// or 1 GiB if there is none.
    #[schemars(range(min = 1_048_576, max = 1_099_511_627_776_u64))]
    pub memory_bytes: Option<usize>,
    /// The part of `memory_bytes` that the calls of one peer address may hold. The default is half. Set it to `memory_bytes`
    /// behind a proxy, where all callers come from one address.
    #[schemars(range(min = 1_048_576, max = 1_099_511_627_776_u64))]
    pub memory_bytes_per_peer: Option<usize>,
    /// The part of `memory_bytes` that the calls of one caller of `callers` may hold. The default is half.
    #[schemars(range(min = 1_048_576, max = 1_099_511_627_776_u64))]
    pub memory_bytes_per_caller: Option<usize>,
    /// Most connections at the same time.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: usize,
    /// Most connections at the same time from one peer address.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections_per_peer: usize,
    /// Most calls at the same time on one connection (HTTP/2 SETTINGS_MAX_CONCURRENT_STREAMS).
    #[schemars(range(min = 1, max = 100_000))]
    pub max_concurrent_streams: u32,
    /// Largest list of request headers, decoded, in bytes (HTTP/2 SETTINGS_MAX_HEADER_LIST_SIZE).
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub max_header_list_bytes: u32,
    /// Bytes of one call that may wait for a slow reader before its stream pauses.
    #[schemars(range(min = 16_384, max = 16_777_216))]
    pub send_buffer_bytes: usize,
    /// Time that a new connection has for its TLS handshake, and again for its HTTP/2 preface.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub handshake_timeout: Duration,
    /// Time for a request's headers to arrive, from their first byte, and then for its message. A connection on which
    /// headers do not end in time is closed; a call whose message does not end in time ends as UNAVAILABLE.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub request_timeout: Duration,
    /// Time that a caller may leave a blob stream or another response unread before the stream is reset. Also
    /// the time after which a connection is closed if its peer accepts no byte of the data that waits for it.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub write_stall_timeout: Duration,
    /// Age at which a client is asked to open a new connection (GOAWAY), so that clients find new replicas.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub connection_age: Duration,
    /// Time that calls in flight have after the GOAWAY before the connection is closed.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub connection_age_grace: Duration,
    /// Time between reporting "not ready" and refusing new connections on shutdown, so that load balancers notice.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub drain_pause: Duration,
    /// Time that calls in flight have to finish on shutdown.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub drain_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: usize = 1024;
        const MIB: usize = 1024 * KIB;
        Self {
            // 4 MiB: the least a registry must accept, and gRPC's own default for a message.
            manifest_bytes: 4 * MIB,
            list_page_bytes: 4 * MIB,
            auth_body_bytes: 64 * KIB,
            max_pages: 10_000,
            max_streams: 1_000,
            memory_bytes: None,
            memory_bytes_per_peer: None,
            memory_bytes_per_caller: None,
            max_connections: 10_000,
            max_connections_per_peer: 1_000,
            max_concurrent_streams: 100,
            max_header_list_bytes: 16 * 1024,
            send_buffer_bytes: 64 * KIB,
            handshake_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            write_stall_timeout: Duration::from_secs(60),
            connection_age: Duration::from_secs(30 * 60),
            connection_age_grace: Duration::from_secs(5 * 60),
            drain_pause: Duration::from_secs(2),
            drain_grace: Duration::from_secs(30),
        }
    }
}
