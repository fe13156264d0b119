//! The listener's settings, each with its unit and the reason for its default.

use std::time::Duration;

/// Limits and times of a [`Server`](super::Server). The configuration makes sure that each is greater than zero and
/// no time is longer than a year.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The most open connections, including those in the handshake. Further connections are closed at once.
    ///
    /// 1,024 leave most of the usual 20,000 descriptors to upstream connections.
    pub max_connections: usize,
    /// The most open connections of one peer: an IPv4 address, or an IPv6 /64, which one host commonly has.
    ///
    /// Set it to `max_connections` behind a proxy or a mesh, where all callers come from one address.
    pub max_connections_per_peer: usize,
    /// Time for the TLS handshake, from accept.
    pub handshake_timeout: Duration,
    /// Time for the HTTP/2 client preface and its SETTINGS frame (RFC 9113, section 3.4), from the end of the TLS
    /// handshake, or from accept without TLS.
    pub preface_timeout: Duration,
    /// Time for a request's header block, from its first frame, and then for its message.
    ///
    /// A request is a few hundred bytes. A caller on a bad line retransmits them several times within 10 s.
    pub request_timeout: Duration,
    /// The most concurrent streams of one connection (`SETTINGS_MAX_CONCURRENT_STREAMS`). Further streams are refused.
    pub max_concurrent_streams: u32,
    /// The most bytes of one request's decoded header list (`SETTINGS_MAX_HEADER_LIST_SIZE`).
    pub max_header_list_bytes: u32,
    /// The most bytes of one stream in the connection's send buffer. hyper polls the stream's body only below this limit,
    /// but always takes a whole frame of it. hyper's default of 400 KiB is too much for a thousand stalled readers.
    pub max_send_buffer_bytes: u32,
    /// The interval of PINGs. They detect dead peers, so TCP keepalive is not needed.
    pub keep_alive_interval: Duration,
    /// The connection is closed if the peer does not acknowledge a PING within this time.
    pub keep_alive_timeout: Duration,
    /// The connection is closed, with its calls, if bytes wait for its socket and the peer reads none for this long.
    pub write_stall: Duration,
    /// The age at which a connection gets a GOAWAY, ±10 % so that clients do not all reconnect at once. Callers then open
    /// a new connection, which spreads them over new replicas.
    pub max_connection_age: Duration,
    /// The time from that GOAWAY until the connection is closed, even if calls are still running on it.
    pub max_connection_age_grace: Duration,
    /// The pause on shutdown between reporting "not ready" and refusing connections. Load balancers need it to remove the
    /// replica.
    pub drain_pause: Duration,
    /// The time that running calls have to finish after the pause. The server returns at most one second later.
    ///
    /// The defaults of pause and grace, with that second, stay below Kubernetes' default grace period of 30 s.
    pub drain_grace: Duration,
    /// How often the TLS files are read.
    pub tls_poll: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_connections_per_peer: 128,
            handshake_timeout: Duration::from_secs(5),
            preface_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
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
