//! Who is at the other end of a connection.

use std::net::SocketAddr;

use rustls::pki_types::CertificateDer;

/// A request extension: who is calling.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address at the other end of the socket; a proxy's, if there is one between.
    pub address: SocketAddr,
    /// The verified client certificate (DER), when the listener requires one.
    pub identity: Option<CertificateDer<'static>>,
}
