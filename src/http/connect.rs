//! Connections: the reqwest clients of one registry, with its certificates, its proxy and its limits.
//!
//! There are three pairs of clients, one for each level of [`Trust`], because the address guard is part of a connection. An
//! unlisted registry has only the strictest pair.
//! Only the registry's own pair presents the client certificate. In each pair, one client speaks HTTP/1.1 and is for
//! blobs: three stalled readers would use up hyper's shared HTTP/2 window and starve all other requests (hyper#2899). The
//! other client uses the version that ALPN negotiates. Proxies come from the configuration only: a proxy variable in the
//! environment would carry requests around the guard.

use std::{fs, path::Path, sync::Arc, time::Duration};

use reqwest::{Certificate, Client, Identity, redirect};
use secrecy::ExposeSecret as _;

use super::{
    egress::{GuardedResolver, Lookups, Trust},
    failure,
    request::Protocol,
    settings::{Proxy, Settings, SetupError},
};
use crate::{oci::Registry, secret};

/// Idle connections kept for one host.
const MAX_IDLE_PER_HOST: usize = 10;
const IDLE_FOR: Duration = Duration::from_secs(60);

const USER_AGENT: &str = concat!("rexd/", env!("CARGO_PKG_VERSION"));

/// The clients of one registry. They share no connection, so that none is used under another rule than its own.
#[derive(Debug)]
pub(super) struct Clients {
    registry: Pair,
    configured: Pair,
    public: Pair,
}

#[derive(Debug, Clone)]
struct Pair {
    http1: Client,
    any: Client,
}

impl Clients {
    pub(super) fn new(registry: &Registry, settings: &Settings) -> Result<Self, SetupError> {
        let fail = |problem| SetupError { registry: registry.to_string(), problem };
        let files = Files::read(settings).map_err(fail)?;
        let lookups = Lookups::new(settings.listed, settings.connect_timeout);
        let pair = |trust| {
            Ok(Pair {
                http1: files.client(settings, &lookups, trust, Protocol::Http1)?,
                any: files.client(settings, &lookups, trust, Protocol::Any)?,
            })
        };
        let public = pair(Trust::Public).map_err(fail)?;
        if !settings.listed {
            // The operator names no origin of it, and callers can make the service set up many of them.
            return Ok(Self { registry: public.clone(), configured: public.clone(), public });
        }
        Ok(Self {
            registry: pair(Trust::Registry).map_err(fail)?,
            configured: pair(Trust::Configured).map_err(fail)?,
            public,
        })
    }

    pub(super) fn get(&self, trust: Trust, protocol: Protocol) -> &Client {
        let pair = match trust {
            Trust::Registry => &self.registry,
            Trust::Configured => &self.configured,
            Trust::Public => &self.public,
        };
        match protocol {
            Protocol::Http1 => &pair.http1,
            Protocol::Any => &pair.any,
        }
    }
}

/// The contents of the files that the settings name.
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
        lookups: &Lookups,
        trust: Trust,
        protocol: Protocol,
    ) -> Result<Client, String> {
        let proxy_host = settings.proxy.as_ref().and_then(|proxy| proxy.url.host_str()).map(str::to_owned);
        let resolver = GuardedResolver { lookups: lookups.clone(), proxy_host, trust };
        let mut builder = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(USER_AGENT)
            .connect_timeout(settings.connect_timeout)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .pool_idle_timeout(IDLE_FOR)
            .dns_resolver(Arc::new(resolver));
        if !self.roots.is_empty() {
            builder = builder.tls_certs_merge(self.roots.iter().cloned());
        }
        // Only the registry sees the certificate; a storage host does not.
        if let Some(identity) = self.identity.clone().filter(|_| trust == Trust::Registry) {
            builder = builder.identity(identity);
        }
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        if protocol == Protocol::Http1 || settings.http1_only {
            builder = builder.http1_only();
        }
        // reqwest's own message for a builder says only "builder error"; the cause is what the operator needs.
        builder.build().map_err(|error| format!("cannot set up connections: {}", failure::innermost(&error)))
    }
}

fn forward_proxy(proxy: &Proxy) -> Result<reqwest::Proxy, String> {
    let fail = |_| "proxy: not a proxy's address".to_owned();
    let built = reqwest::Proxy::all(proxy.url.clone()).map_err(fail)?;
    let Some((username, password_file)) = &proxy.credentials else {
        return Ok(built);
    };
    let say = |problem: String| format!("proxy_password_file {}: {problem}", password_file.display());
    let password = secret::from_file(&read("proxy_password_file", password_file)?).map_err(say)?;
    Ok(built.basic_auth(username, password.expose_secret()))
}

fn read(key: &str, file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{key} {}: {error}", file.display()))
}
