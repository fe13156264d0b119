//! The PEM files of the listener, and the rustls configuration that is made from them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::server::TlsStream;

/// Certificate chains are a few KiB, CA bundles a few hundred.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The PEM files of the listener. They may be replaced while it runs. Connections that are accepted later use the new ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key of that certificate: PKCS#8, PKCS#1 or SEC 1.
    pub key: PathBuf,
    /// The CAs of client certificates. If set, every caller must present a certificate. Otherwise no certificate is requested.
    pub client_ca: Option<PathBuf>,
}

/// Why the TLS files cannot be used. Each variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file is larger than 1 MiB.
    #[error("{} has more than {MAX_FILE_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not PEM, or its content is not a certificate.
    #[error("{} is not a PEM file of certificates", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: pem::Error,
    },
    /// The file contains no valid private key. The parser's error is not kept, because it may quote a line of the key.
    #[error("{} holds no PEM private key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The key does not belong to the certificate.
    #[error("{} and {} are not a matching certificate and key", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What does not fit.
        source: rustls::Error,
    },
    /// A certificate in the file cannot be used as a CA.
    #[error("{} contains a certificate that cannot be used as a CA", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: rustls::Error,
    },
    /// Client certificates cannot be verified with the file.
    #[error("client certificates cannot be verified with {}", path.display())]
    Verifier {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: VerifierBuilderError,
    },
}

/// The contents of the files at one time. It has no `Debug`, because one of them is a private key.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) client_ca: Option<Vec<u8>>,
}

impl Files {
    pub(super) async fn read(&self) -> Result<Contents, Error> {
        Ok(Contents {
            certificate: read(&self.certificate).await?,
            key: read(&self.key).await?,
            client_ca: match &self.client_ca {
                Some(path) => Some(read(path).await?),
                None => None,
            },
        })
    }

    pub(super) fn config(&self, contents: &Contents) -> Result<ServerConfig, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pair =
            |source| Error::Pair { certificate: self.certificate.clone(), key: self.key.clone(), source };
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(pair)?;
        let config = match (&self.client_ca, &contents.client_ca) {
            (Some(path), Some(pem)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path, pem)? {
                    roots
                        .add(certificate)
                        .map_err(|source| Error::ClientCa { path: path.clone(), source })?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|source| Error::Verifier { path: path.clone(), source })?;
                config.with_client_cert_verifier(verifier)
            }
            _ => config.with_no_client_auth(),
        };
        let chain = certificates(&self.certificate, &contents.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|_source| Error::Key { path: self.key.clone() })?;
        let mut config = config.with_single_cert(chain, key).map_err(pair)?;
        // gRPC needs HTTP/2. For a caller that offers only other protocols, the handshake fails (RFC 7301).
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// The client certificate, which the handshake has verified.
pub(in crate::server) fn client_certificate(
    stream: &TlsStream<TcpStream>,
) -> Option<CertificateDer<'static>> {
    let (_, session) = stream.get_ref();
    Some(session.peer_certificates()?.first()?.clone().into_owned())
}

async fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let reading = async {
        let mut bytes = Vec::new();
        let file = tokio::fs::File::open(path).await?;
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).await?;
        Ok(bytes)
    };
    let bytes = reading.await.map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::TooLarge { path: path.to_path_buf() });
    }
    Ok(bytes)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(pem::Error::NoItemsFound),
        found => found,
    }
    .map_err(|source| Error::Certificates { path: path.to_path_buf(), source })
}
