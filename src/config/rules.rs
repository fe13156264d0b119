//! The rules that no schema can express: keys that go together, and files that must be there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::caller::{Caller, CallerIdentity};
use super::credentials::Credentials;
use super::error::Report;
use super::origin::member;
use super::registry::Registry;
use super::service::Config;
use crate::{oci, policy::Grant};

/// Reports every rule that `config` breaks.
pub(super) fn check(config: &Config, report: &mut Report) {
    listeners(config, report);
    aliases(config, report);
    default_registry(config, report);
    for path in &config.docker_configs {
        file("/docker_configs", path, report);
    }
    if let Some(tls) = &config.tls {
        file("/tls/cert_file", &tls.cert_file, report);
        file("/tls/key_file", &tls.key_file, report);
        if let Some(path) = &tls.client_ca_file {
            file("/tls/client_ca_file", path, report);
        }
    }
    for (name, registry) in &config.registries {
        registry_rules(&member("/registries", name), registry, report);
    }
    callers(config, report);
}

fn listeners(config: &Config, report: &mut Report) {
    if config.ops_listen == Some(config.listen) && config.listen.port() != 0 {
        report.rule(&["/ops_listen", "/listen"], "must not be the address of listen");
    }
}

/// Docker Hub has several names; what the service takes for the same must not be configured twice.
fn aliases(config: &Config, report: &mut Report) {
    let mut seen = BTreeMap::new();
    for (name, canonical) in config.registries.keys().filter_map(|name| Some((name, canonical(name)?))) {
        if let Some(first) = seen.insert(canonical, name) {
            let at = |name| member("/registries", name);
            report.rule(&[&at(name), &at(first)], format!("is the same registry as {first}"));
        }
    }
}

fn canonical(name: &str) -> Option<oci::Registry> {
    name.parse().ok()
}

fn is_listed(registry: &oci::Registry, config: &Config) -> bool {
    config.registries.keys().any(|name| canonical(name).as_ref() == Some(registry))
}

fn default_registry(config: &Config, report: &mut Report) {
    let is_known = canonical(&config.default_registry).is_some_and(|registry| is_listed(&registry, config));
    if config.allow_unlisted || is_known {
        return;
    }
    let entry = member("/registries", &config.default_registry);
    report.rule(
        &["/default_registry", &entry, "/allow_unlisted"],
        format!("{} is not in registries, and allow_unlisted is false", config.default_registry),
    );
}

fn callers(config: &Config, report: &mut Report) {
    let mut anonymous = None;
    for (name, caller) in config.callers.iter().flatten() {
        let at = member("/callers", name);
        match &caller.identity {
            CallerIdentity::TokenFile(path) => file(&member(&at, "token_file"), path, report),
            CallerIdentity::CertificateNames(_) => {
                if config.tls.as_ref().is_none_or(|tls| tls.client_ca_file.is_none()) {
                    report.rule(
                        &[&member(&at, "certificate_names"), "/tls/client_ca_file"],
                        "needs tls.client_ca_file too; without it no certificate is asked for",
                    );
                }
            }
            CallerIdentity::Anonymous => {
                if let Some(first) = anonymous.replace(name) {
                    report.rule(&[&member(&at, "anonymous")], format!("{first} is anonymous already"));
                }
            }
        }
        grants(&at, caller, config, report);
    }
}

/// A grant of a registry that the service does not serve is a slip, and would never be noticed.
fn grants(at: &str, caller: &Caller, config: &Config, report: &mut Report) {
    for grant in caller.allow.iter().filter_map(|grant| grant.parse::<Grant>().ok()) {
        if let Some(registry) = grant.registry()
            && !config.allow_unlisted
            && !is_listed(registry, config)
        {
            report.rule(
                &[&member(at, "allow"), "/registries", "/allow_unlisted"],
                format!("{registry} is not in registries, and allow_unlisted is false"),
            );
        }
    }
}

fn registry_rules(at: &str, registry: &Registry, report: &mut Report) {
    let key = |name: &str| member(at, name);
    let mut needs = |present: bool, name: &str, other: &str, other_present: bool| {
        if present && !other_present {
            report.rule(&[&key(name), &key(other)], format!("needs {other} too"));
        }
    };
    let (cert, private_key) = (registry.client_cert_file.is_some(), registry.client_key_file.is_some());
    needs(cert, "client_cert_file", "client_key_file", private_key);
    needs(private_key, "client_key_file", "client_cert_file", cert);
    let (proxy, username) = (registry.proxy.is_some(), registry.proxy_username.is_some());
    needs(username, "proxy_username", "proxy", proxy);
    needs(registry.proxy_password_file.is_some(), "proxy_password_file", "proxy_username", username);

    headers(&key("headers"), registry, report);
    for (name, path) in [
        ("ca_file", &registry.ca_file),
        ("client_cert_file", &registry.client_cert_file),
        ("client_key_file", &registry.client_key_file),
        ("proxy_password_file", &registry.proxy_password_file),
    ] {
        if let Some(path) = path {
            file(&key(name), path, report);
        }
    }
    if let Some(credentials) = &registry.credentials {
        credential_files(&key("credentials"), credentials, report);
    }
}

fn credential_files(at: &str, credentials: &Credentials, report: &mut Report) {
    match credentials {
        Credentials::DockerConfig(paths) => {
            for path in paths {
                file(&member(at, "docker_config"), path, report);
            }
        }
        Credentials::Password { password_file, .. } => {
            file(&member(at, "password_file"), password_file, report)
        }
        Credentials::Token { token_file } => file(&member(at, "token_file"), token_file, report),
    }
}

/// Header names are the same in any case; a map's keys are not.
fn headers(at: &str, registry: &Registry, report: &mut Report) {
    let mut seen = BTreeMap::new();
    for name in registry.headers.keys() {
        if let Some(first) = seen.insert(name.to_ascii_lowercase(), name) {
            report.rule(&[&member(at, name), &member(at, first)], format!("is the same header as {first}"));
        }
    }
}

fn file(pointer: &str, path: &Path, report: &mut Report) {
    if let Err(reason) = readable(path) {
        report.rule(&[pointer], format!("{} {reason}", path.display()));
    }
}

/// Whether a file can be read, now at least. Its content is checked where it is used, because it may rotate.
fn readable(file: &Path) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    // Asked first, because to open a pipe would wait for its other end.
    if !fs::metadata(file).map_err(cannot)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    fs::File::open(file).map(drop).map_err(cannot)
}
