//! TLS in front of a scripted registry: the test's own certificate authority, and a proxy that terminates TLS.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use tokio::{io::copy_bidirectional, net::TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{calls::Files, listen};

/// An https address that forwards what it receives in plain text.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    /// The certificate authority to trust.
    pub(crate) ca_file: PathBuf,
    _accepting: AbortOnDropHandle<()>,
}

impl Front {
    pub(crate) async fn before(behind: SocketAddr, files: &Files) -> Self {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let (listener, acceptor) = (listen().await, TlsAcceptor::from(Arc::new(config)));
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(mut client) = acceptor.accept(client).await {
                        let mut server = TcpStream::connect(behind).await.unwrap();
                        // Either side may close the connection at any time.
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self {
            address,
            ca_file: files.write("ca.pem", cert.pem()),
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }
}
