//! Connections: one set of reqwest clients a registry, with its certificates, its proxy and its limits.
//!
//! Three pairs of clients, because the address guard is part of a connection: one for the registry itself, which alone sees
//! the client certificate, one for the other origins the operator named, which may be private too, and one for every
//! other origin, which may not. Each pair is HTTP/1.1 for blobs – hyper's shared
//! HTTP/2 window would let three stalled readers starve everybody else (hyper#2899) – and whatever ALPN agrees on for
//! the rest. Proxies come from the configuration alone: a proxy variable in the environment would carry requests round
//! the guard.

use std::{fs, path::Path, sync::Arc, time::Duration};

use reqwest::{Certificate, Client, Identity, redirect};
use secrecy::ExposeSecret as _;

use super::{
    credentials::one_secret,
    egress::{Admission, GuardedResolver},
    settings::{Proxy, Settings, SetupError},
};

/// Idle connections kept for one host.
const MAX_IDLE_PER_HOST: usize = 10;
const IDLE_FOR: Duration = Duration::from_secs(60);

const USER_AGENT: &str = concat!("rexd/", env!("CARGO_PKG_VERSION"));

/// Which HTTP a request may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1: a connection of its own while the body lasts.
    Http1,
    /// What the registry offers.
    Any,
}

/// The clients of one registry; they share nothing, so that no connection outlives the rule it was made under.
#[derive(Debug)]
pub(super) struct Clients {
    registry: Pair,
    named: Pair,
    foreign: Pair,
}

#[derive(Debug)]
struct Pair {
    http1: Client,
    any: Client,
}

impl Clients {
    pub(super) fn new(settings: &Settings) -> Result<Self, SetupError> {
        let fail = |problem| SetupError { registry: settings.registry.to_string(), problem };
        let files = Files::read(settings).map_err(fail)?;
        let pair = |admission| {
            Ok(Pair {
                http1: files.client(settings, admission, Protocol::Http1)?,
                any: files.client(settings, admission, Protocol::Any)?,
            })
        };
        Ok(Self {
            registry: pair(Admission::Registry).map_err(fail)?,
            named: pair(Admission::Named).map_err(fail)?,
            foreign: pair(Admission::Foreign).map_err(fail)?,
        })
    }

    pub(super) fn get(&self, admission: Admission, protocol: Protocol) -> &Client {
        let pair = match admission {
            Admission::Registry => &self.registry,
            Admission::Named => &self.named,
            Admission::Foreign => &self.foreign,
        };
        match protocol {
            Protocol::Http1 => &pair.http1,
            Protocol::Any => &pair.any,
        }
    }
}

/// What the settings' files hold.
struct Files {
    roots: Vec<Certificate>,
    identity: Option<Identity>,
    proxy: Option<reqwest::Proxy>,
}

impl Files {
    fn read(settings: &Settings) -> Result<Self, String> {
        let roots = match &settings.ca_file {
            None => Vec::new(),
            Some(file) => {
                let say = |problem: &str| format!("ca_file {}: {problem}", file.display());
                let roots = Certificate::from_pem_bundle(&read("ca_file", file)?)
                    .map_err(|_| say("not certificates in PEM"))?;
                if roots.is_empty() {
                    return Err(say("holds no certificate in PEM"));
                }
                roots
            }
        };
        let identity = match &settings.client_certificate {
            None => None,
            Some(pair) => {
                let mut pem = read("client_cert_file", &pair.cert_file)?;
                pem.push(b'\n');
                pem.extend(read("client_key_file", &pair.key_file)?);
                let files = format!("{} and {}", pair.cert_file.display(), pair.key_file.display());
                let identity = Identity::from_pem(&pem).map_err(|_| {
                    format!(
                        "client_cert_file and client_key_file {files}: not a certificate and its key in PEM"
                    )
                })?;
                Some(identity)
            }
        };
        let proxy = settings.proxy.as_ref().map(forward_proxy).transpose()?;
        Ok(Self { roots, identity, proxy })
    }

    fn client(
        &self,
        settings: &Settings,
        admission: Admission,
        protocol: Protocol,
    ) -> Result<Client, String> {
        let proxy_host = settings.proxy.as_ref().and_then(|proxy| proxy.url.host_str()).map(str::to_owned);
        let mut builder = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(USER_AGENT)
            .connect_timeout(settings.connect_timeout)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .pool_idle_timeout(IDLE_FOR)
            .dns_resolver(Arc::new(GuardedResolver { proxy_host, admission }));
        if !self.roots.is_empty() {
            builder = builder.tls_certs_merge(self.roots.iter().cloned());
        }
        // The certificate is the registry's to see, not a storage host's.
        if let Some(identity) = self.identity.clone().filter(|_| admission == Admission::Registry) {
            builder = builder.identity(identity);
        }
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        if protocol == Protocol::Http1 || settings.http1_only {
            builder = builder.http1_only();
        }
        // reqwest's own message for a builder says only "builder error"; the cause is what the operator needs.
        builder
            .build()
            .map_err(|error| format!("cannot set up connections: {}", super::failure::innermost(&error)))
    }
}

fn forward_proxy(proxy: &Proxy) -> Result<reqwest::Proxy, String> {
    let fail = |_| "proxy: not a proxy's address".to_owned();
    let built = reqwest::Proxy::all(proxy.url.clone()).map_err(fail)?;
    let Some((username, password_file)) = &proxy.credentials else {
        return Ok(built);
    };
    let say = |problem: String| format!("proxy_password_file {}: {problem}", password_file.display());
    let password = one_secret(&read("proxy_password_file", password_file)?).map_err(say)?;
    Ok(built.basic_auth(username, password.expose_secret()))
}

fn read(key: &str, file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{key} {}: {error}", file.display()))
}
