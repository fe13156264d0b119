//! The peer of a connection.

use std::net::SocketAddr;

use rustls::pki_types::CertificateDer;

/// A request extension that describes the peer of the request's connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The peer's address. Behind a proxy, this is the proxy's address.
    pub address: SocketAddr,
    /// The verified client certificate (DER), when the listener requires one.
    pub identity: Option<CertificateDer<'static>>,
}
