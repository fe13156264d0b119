//! Checks rules that a schema cannot express: keys that depend on each other.

use std::collections::BTreeMap;

use tracing_subscriber::EnvFilter;

use super::caller::{Caller, CallerIdentity};
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
    for (name, registry) in &config.registries {
        registry_rules(&member("/registries", name), registry, report);
    }
    callers(config, report);
    for (key, problem) in config.cache.store.conflicts() {
        report.rule(&[&member("/cache/store", key)], problem);
    }
    fleet(config, report);
    if let Err(error) = EnvFilter::builder().parse(&config.log.filter) {
        report.rule(&["/log/filter"], format!("must be a filter, such as info or info,rexd=debug ({error})"));
    }
}

fn listeners(config: &Config, report: &mut Report) {
    if config.ops_listen == Some(config.listen) && config.listen.port() != 0 {
        report.rule(&["/ops_listen", "/listen"], "must not be the address of listen");
    }
}

/// The keys of the engine that depend on each other, and the limits of registries that only an engine can share.
fn fleet(config: &Config, report: &mut Report) {
    let Some(shared) = &config.cache.shared else {
        for (name, _) in config.registries.iter().filter(|(_, registry)| !registry.fleet.is_unlimited()) {
            let at = member(&member("/registries", name), "fleet");
            report.rule(&[&at, "/cache/shared"], "needs cache.shared too");
        }
        return;
    };
    let key = |name| member("/cache/shared", name);
    if shared.username.is_some() && shared.password_file.is_none() {
        report.rule(&[&key("username"), &key("password_file")], "needs password_file too");
    }
    if shared.ca_file.is_some() && !shared.url.starts_with("rediss") {
        report.rule(&[&key("ca_file"), &key("url")], "needs a url that begins with rediss");
    }
}

/// Docker Hub has several names. Two names of the same registry must not both be configured.
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
    if config.allow_unlisted {
        return;
    }
    if config.registries.is_empty() {
        if !report.is_intact("/registries") {
            return;
        }
        report.rule(
            &["/registries", "/allow_unlisted"],
            "is empty, and allow_unlisted is false: list at least one registry",
        );
        return;
    }
    let Some(name) = &config.default_registry else { return };
    if !canonical(name).is_some_and(|registry| is_listed(&registry, config)) {
        report.rule(
            &["/default_registry", &member("/registries", name), "/allow_unlisted"],
            format!("{name} is not in registries, and allow_unlisted is false"),
        );
    }
}

fn callers(config: &Config, report: &mut Report) {
    let mut anonymous = None;
    for (name, caller) in config.callers.iter().flatten() {
        let at = member("/callers", name);
        match &caller.identity {
            CallerIdentity::TokenFile(_) => {}
            CallerIdentity::CertificateNames(_) => {
                if config.tls.as_ref().is_none_or(|tls| tls.client_ca_file.is_none()) {
                    report.rule(
                        &[&member(&at, "certificate_names"), "/tls/client_ca_file"],
                        "needs tls.client_ca_file too; without it the listener requests no certificate",
                    );
                }
            }
            CallerIdentity::Anonymous => {
                if let Some(first) = anonymous.replace(name) {
                    report.rule(
                        &[&member(&at, "anonymous")],
                        format!("{first} is already the anonymous caller; there can be only one"),
                    );
                }
            }
        }
        grants(&at, caller, config, report);
    }
}

/// A grant for a registry that the service does not serve is an error. Nothing else would show this mistake.
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
    if registry.page_parameters.iter().any(|name| name.eq_ignore_ascii_case("ns")) {
        report.rule(
            &[&key("page_parameters")],
            "must not have ns: a forged page token could make a mirror ask any registry",
        );
    }
}

/// Header names are case-insensitive, but the keys of a map are not.
fn headers(at: &str, registry: &Registry, report: &mut Report) {
    let mut seen = BTreeMap::new();
    for name in registry.headers.keys() {
        if let Some(first) = seen.insert(name.to_ascii_lowercase(), name) {
            report.rule(&[&member(at, name), &member(at, first)], format!("is the same header as {first}"));
        }
    }
}
