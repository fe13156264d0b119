//! Signing in to the engine: its password, and the authorities that its certificate is checked with.
//!
//! Both files are read again when they have changed, at the next connection.

use std::sync::Arc;

use redis::{Cmd, cmd};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_rustls::TlsConnector;

use super::{address::Host, settings::Settings};
use crate::{reloaded_file::ReloadedFile, secret};

/// How to sign in to the engine.
#[derive(Debug)]
pub(super) struct SignIn {
    username: Option<String>,
    password: Option<ReloadedFile<SecretString>>,
    authorities: Authorities,
}

/// Whose certificates are trusted.
#[derive(Debug)]
enum Authorities {
    /// The connection is not encrypted.
    None,
    /// The system's.
    System(Arc<ClientConfig>),
    /// Those of a file.
    File(ReloadedFile<Arc<ClientConfig>>),
}

impl SignIn {
    /// Reads the files. The error names the key and the file.
    pub(super) fn new(settings: &Settings, tls: bool) -> Result<Self, String> {
        let password = settings.password_file.as_deref();
        let password = password
            .map(|file| ReloadedFile::open(file, secret::from_file))
            .transpose()
            .map_err(|problem| format!("cache.shared.password_file: {problem}"))?;
        if settings.username.is_some() && password.is_none() {
            return Err("cache.shared.username: needs password_file".to_owned());
        }
        let authorities = match (tls, &settings.ca_file) {
            (false, None) => Authorities::None,
            (false, Some(_)) => {
                return Err("cache.shared.ca_file: needs a url that begins with rediss".to_owned());
            }
            (true, None) => Authorities::System(Arc::new(client_config(system_roots()?))),
            (true, Some(file)) => Authorities::File(
                ReloadedFile::open(file, parse_authorities)
                    .map_err(|problem| format!("cache.shared.ca_file: {problem}"))?,
            ),
        };
        Ok(Self { username: settings.username.clone(), password, authorities })
    }

    /// The command that signs in, if there is a password.
    pub(super) async fn command(&self) -> Option<Cmd> {
        let password = self.password.as_ref()?.get().await;
        let mut command = cmd("AUTH");
        if let Some(username) = &self.username {
            command.arg(username);
        }
        command.arg(password.expose_secret());
        Some(command)
    }

    /// What a TLS connection to this host needs. `None`: the connection is not encrypted.
    pub(super) async fn tls(
        &self,
        host: &Host,
    ) -> Result<Option<(TlsConnector, ServerName<'static>)>, String> {
        let config = match &self.authorities {
            Authorities::None => return Ok(None),
            Authorities::System(config) => Arc::clone(config),
            Authorities::File(file) => Arc::clone(&*file.get().await),
        };
        let name =
            ServerName::try_from(host.name.clone()).map_err(|_| "not a name that TLS knows".to_owned())?;
        Ok(Some((TlsConnector::from(config), name)))
    }
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("cache.shared.url: the system has no certificate authorities; set ca_file".to_owned());
    }
    Ok(roots)
}

fn parse_authorities(pem: &[u8]) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("not PEM ({error})"))?;
        roots.add(certificate).map_err(|error| format!("a certificate cannot be used ({error})"))?;
    }
    if roots.is_empty() {
        return Err("no certificates".to_owned());
    }
    Ok(Arc::new(client_config(roots)))
}

fn client_config(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}
