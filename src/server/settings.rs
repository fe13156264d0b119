//! The listener's settings, each with its unit and the reason for its default.

use std::time::Duration;

/// Limits and times of a [`Server`](super::Server). The configuration validates them: none is zero, and no time is
/// longer than a year.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Open connections in all, those still in the handshake included. One more is closed at once.
    ///
    /// 1,024 leave most of the usual 20,000 descriptors to upstream connections.
    pub max_connections: usize,
    /// Open connections of one peer: an IPv4 address, or an IPv6 /64, which is what one host commonly holds.
    ///
    /// Set it to `max_connections` behind a proxy or a mesh, where all callers come from one address.
    pub max_connections_per_peer: usize,
    /// Time for the TLS handshake, from accept.
    pub handshake_timeout: Duration,
    /// Time for the HTTP/2 client preface and its SETTINGS frame (RFC 9113, section 3.4), from the end of the TLS
    /// handshake, or from accept without TLS.
    pub preface_timeout: Duration,
    /// Concurrent streams of one connection (`SETTINGS_MAX_CONCURRENT_STREAMS`); one more is refused.
    pub max_concurrent_streams: u32,
    /// Bytes of one request's decoded header list (`SETTINGS_MAX_HEADER_LIST_SIZE`).
    pub max_header_list_bytes: u32,
    /// Bytes which one stream may hold in the connection's send buffer before its body is asked for more; a frame of the
    /// body that is larger is taken whole. hyper's own 400 KiB are too many for a thousand
    /// stalled readers.
    pub max_send_buffer_bytes: u32,
    /// A PING goes out after this long; it finds dead peers, so TCP keepalive is not needed.
    pub keep_alive_interval: Duration,
    /// A PING not answered within this time closes the connection.
    pub keep_alive_timeout: Duration,
    /// A connection whose peer takes no byte of what waits for its socket for this long is closed, with the calls on it.
    pub write_stall: Duration,
    /// Age at which a connection is told to go away (GOAWAY), ±10 % so that a fleet does not reconnect in step.
    /// Callers then open a new one, which spreads them over new replicas.
    pub max_connection_age: Duration,
    /// Time from that GOAWAY until the connection is closed with the calls still on it.
    pub max_connection_age_grace: Duration,
    /// Time between not being ready and not accepting: load balancers need it to take the replica out.
    pub drain_pause: Duration,
    /// Time which running calls have to finish after the pause. The server returns at the latest one second later.
    ///
    /// Pause, grace and that second stay below the 30 s which Kubernetes leaves by default.
    pub drain_grace: Duration,
    /// How often the TLS files are looked at.
    pub tls_poll: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_connections_per_peer: 128,
            handshake_timeout: Duration::from_secs(5),
            preface_timeout: Duration::from_secs(5),
            max_concurrent_streams: 100,
            max_header_list_bytes: 16 * 1024,
            max_send_buffer_bytes: 64 * 1024,
            keep_alive_interval: Duration::from_secs(60),
            keep_alive_timeout: Duration::from_secs(20),
            write_stall: Duration::from_secs(60),
            max_connection_age: Duration::from_secs(30 * 60),
            max_connection_age_grace: Duration::from_secs(30 * 60),
            drain_pause: Duration::from_secs(5),
            drain_grace: Duration::from_secs(20),
            tls_poll: Duration::from_secs(1),
        }
    }
}
