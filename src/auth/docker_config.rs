//! Docker's `config.json`, which Kubernetes calls `.dockerconfigjson`, and the choice of an entry for a repository.
//!
//! Entries are matched as the kubelet does ("Images", "Interpretation of config.json"; `URLsMatch` of
//! k8s.io/kubernetes/pkg/credentialprovider): the host may have globs in each label, the port must be
//! equal or absent in both, a path is a prefix, and the most specific entry wins. Unlike in the kubelet, a path prefix ends
//! at a `/`: an entry for `r.example/team` does not match `r.example/teamwork`.

use std::{cmp::Reverse, collections::BTreeMap};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::SecretString;
use serde::Deserialize;

use super::credential::Credential;
use crate::oci::{Registry, Repository};

/// The entries of a file, the most specific first.
#[derive(Debug)]
pub(super) struct DockerConfig(Vec<(Pattern, Credential)>);

impl DockerConfig {
    /// Parses a file. Every entry must be valid: if a broken entry were skipped, the call would silently go out as
    /// anonymous (CVE-2021-41092).
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(bytes).map_err(|error| {
            format!("not a docker config (line {}, column {})", error.line(), error.column())
        })?;
        let helper = file.creds_store.is_some() || !file.cred_helpers.is_empty();
        if file.auths.is_none() && !helper {
            return Err("not a docker config: it has no auths".to_owned());
        }
        let mut entries = Vec::new();
        for (key, auth) in file.auths.unwrap_or_default() {
            // Docker writes an empty entry for a registry with a credential helper.
            let Some(credential) =
                auth.credential().map_err(|problem| format!("auths[{key:?}]: {problem}"))?
            else {
                continue;
            };
            let pattern = Pattern::parse(&key).ok_or_else(|| format!("auths[{key:?}]: not a registry"))?;
            if pattern.has_class() {
                tracing::warn!(
                    entry = key,
                    "the docker config has an entry with [ ] in its host; it is for no registry"
                );
            }
            entries.push((pattern, credential));
        }
        if entries.is_empty() && helper {
            return Err(
                "names a credential helper and holds no credentials; helpers are never run here".to_owned()
            );
        }
        for registry in file.cred_helpers.keys() {
            tracing::warn!(
                registry,
                "the docker config names a credential helper for the registry; helpers are never run here"
            );
        }
        entries.sort_by_key(|(pattern, _)| Reverse(pattern.specificity()));
        Ok(Self(entries))
    }

    /// The credential for a repository, or for the registry as a whole, and how specific the entry is that holds it.
    pub(super) fn find(
        &self,
        registry: &Registry,
        repository: Option<&Repository>,
    ) -> Option<(Specificity, Credential)> {
        let (host, port) = split_host(registry.as_str());
        let path = repository.map_or("", Repository::as_str);
        self.0
            .iter()
            .find(|(pattern, _)| pattern.matches(host, port, path))
            .map(|(pattern, credential)| (pattern.specificity(), credential.clone()))
    }
}

#[derive(Deserialize)]
struct File {
    auths: Option<BTreeMap<String, Auth>>,
    #[serde(default, rename = "credsStore")]
    creds_store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Auth {
    auth: Option<SecretString>,
    username: Option<String>,
    password: Option<SecretString>,
    identitytoken: Option<SecretString>,
    registrytoken: Option<SecretString>,
}

impl Auth {
    fn credential(self) -> Result<Option<Credential>, String> {
        use secrecy::ExposeSecret as _;
        let filled =
            |secret: Option<SecretString>| secret.filter(|secret| !secret.expose_secret().is_empty());
        let has_other = self.auth.is_some() || self.identitytoken.is_some();
        if let Some(token) = filled(self.registrytoken) {
            return Ok(Some(Credential::bearer(token)));
        }
        let mut pair = match (self.username.filter(|username| !username.is_empty()), filled(self.password)) {
            (Some(username), Some(password)) => Some((username, password)),
            // Next to `auth` or a token, docker may write only one of them.
            _ if has_other => None,
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err("has a username or a password without the other".to_owned());
            }
        };
        if let Some(auth) = filled(self.auth) {
            let decoded = STANDARD
                .decode(auth.expose_secret().trim())
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or("auth is not base64 of text")?;
            let (username, password) = decoded.split_once(':').ok_or("auth is not user:password")?;
            // Some writers pad the password with NUL (docker/cli, config/configfile).
            pair = Some((username.to_owned(), password.trim_end_matches('\0').into()));
        }
        if let Some(token) = filled(self.identitytoken) {
            return Ok(Some(Credential::identity(token, pair)));
        }
        Ok(pair.map(|(username, password)| Credential::password(username, password)))
    }
}

/// How specific an entry is: exact hosts come before globs, then the longer path, then the longer host. Ports do not count,
/// because all entries for one registry have the same.
pub(super) type Specificity = (bool, usize, usize);

/// The registries and repositories that an entry's key matches.
#[derive(Debug)]
struct Pattern {
    host: String,
    port: Option<String>,
    path: String,
}

impl Pattern {
    fn parse(key: &str) -> Option<Self> {
        let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
        let (name, path) = bare.split_once('/').unwrap_or((bare, ""));
        // `docker login` writes `/v1/` for Docker Hub, and `/v2/` is the API's own prefix. Neither is part of a name.
        let path = match path.split_once('/').unwrap_or((path, "")) {
            ("v1" | "v2", path) => path,
            _ => path,
        };
        let path = path.trim_end_matches('/');
        if name.is_empty() || name.contains(char::is_whitespace) {
            return None;
        }
        let canonical =
            name.parse::<Registry>().map_or_else(|_| name.to_ascii_lowercase(), |r| r.to_string());
        let (host, port) = split_host(&canonical);
        // A glob is no `Registry`, whose canonical name has no default port.
        let port = port.filter(|port| *port != "443").map(str::to_owned);
        Some(Self { host: host.to_owned(), port, path: path.to_owned() })
    }

    fn specificity(&self) -> Specificity {
        let exact = !self.host.contains(['*', '?', '[']);
        (exact || self.host.starts_with('['), self.path.len(), self.host.len())
    }

    /// Whether the host has a character class, which the kubelet's globs allow and these do not. The brackets of an IPv6
    /// address are not a class.
    fn has_class(&self) -> bool {
        self.host.contains('[') && self.host.parse::<Registry>().is_err()
    }

    fn matches(&self, host: &str, port: Option<&str>, path: &str) -> bool {
        let path_fits = self.path.is_empty()
            || path
                .strip_prefix(self.path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.port.as_deref() == port && path_fits && host_matches(&self.host, host)
    }
}

fn host_matches(pattern: &str, host: &str) -> bool {
    if pattern == host {
        return true;
    }
    let (patterns, labels): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), host.split('.').collect());
    patterns.len() == labels.len()
        && patterns
            .iter()
            .zip(&labels)
            .all(|(pattern, label)| label_matches(pattern.as_bytes(), label.as_bytes()))
}

/// Matches `*` and `?` within one label. Iterative, so that no pattern takes exponential time.
fn label_matches(pattern: &[u8], label: &[u8]) -> bool {
    let (mut p, mut l) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = label.get(l) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, l));
                p += 1;
            }
            Some(expected) if expected == byte || *expected == b'?' => {
                p += 1;
                l += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                l = from + 1;
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

fn split_host(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (name, None),
    }
}

#[cfg(test)]
#[path = "docker_config_tests.rs"]
mod tests;
