//! Credentials: what there is to show to a registry, and for which repositories.
//!
//! Each source is read when the service starts, and a source that cannot be read then is an error: nothing falls back to
//! anonymous. Later changes are picked up by [`ReloadedFile`]. No credential helper is ever run.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::{
    docker_config::{DockerConfig, Specificity},
    settings::{CredentialSource, SetupError},
};
use crate::{
    oci::{Registry, Repository},
    reloaded_file::ReloadedFile,
};

/// What tells one credential from another, in the token cache's key; not the secret itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CredentialId([u8; 32]);

impl fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not even the hash: a short password could be found from it.
        f.write_str("CredentialId(…)")
    }
}

/// One way to sign in.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    id: CredentialId,
    secret: Arc<Secret>,
}

/// What is shown, and to whom.
#[derive(Debug)]
pub(super) enum Secret {
    /// A user name and a password: for Basic, and for a token service.
    Password { username: String, password: SecretString },
    /// A token for the token service's OAuth2 exchange; beside it the pair that some services want instead.
    Identity { token: SecretString, pair: Option<(String, SecretString)> },
    /// A token for the registry itself.
    Bearer(SecretString),
}

impl Credential {
    pub(super) fn password(username: String, password: SecretString) -> Self {
        let id = identify("password", &[&username, password.expose_secret()]);
        Self { id, secret: Arc::new(Secret::Password { username, password }) }
    }

    pub(super) fn identity(token: SecretString, pair: Option<(String, SecretString)>) -> Self {
        let (username, password) = pair
            .as_ref()
            .map_or(("", ""), |(username, password)| (username.as_str(), password.expose_secret()));
        let id = identify("identity", &[token.expose_secret(), username, password]);
        Self { id, secret: Arc::new(Secret::Identity { token, pair }) }
    }

    pub(super) fn bearer(token: SecretString) -> Self {
        let id = identify("bearer", &[token.expose_secret()]);
        Self { id, secret: Arc::new(Secret::Bearer(token)) }
    }

    pub(super) fn id(&self) -> CredentialId {
        self.id
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The user name and password, where there are some.
    pub(super) fn pair(&self) -> Option<(&str, &SecretString)> {
        match &*self.secret {
            Secret::Password { username, password } => Some((username, password)),
            Secret::Identity { pair, .. } => {
                pair.as_ref().map(|(username, password)| (username.as_str(), password))
            }
            Secret::Bearer(_) => None,
        }
    }

    /// The user name, where one is known.
    #[cfg(test)]
    pub(super) fn username(&self) -> Option<&str> {
        self.pair().map(|(username, _)| username)
    }
}

/// Length-prefixed, so that no two lists of parts are the same bytes.
fn identify(kind: &str, parts: &[&str]) -> CredentialId {
    let mut hash = Sha256::new();
    for part in std::iter::once(&kind).chain(parts) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    CredentialId(hash.finalize().into())
}

/// All sources of one registry, in the operator's order.
#[derive(Debug)]
pub(super) struct Credentials {
    registry: Registry,
    sources: Vec<Source>,
}

#[derive(Debug)]
enum Source {
    Password { username: String, file: ReloadedFile<SecretString> },
    Token { file: ReloadedFile<SecretString> },
    DockerConfig { file: ReloadedFile<DockerConfig> },
}

impl Credentials {
    pub(super) fn open(registry: &Registry, sources: &[CredentialSource]) -> Result<Self, SetupError> {
        let open = |source: &CredentialSource| match source {
            CredentialSource::Password { username, password_file } => {
                ReloadedFile::open(password_file, one_secret)
                    .map(|file| Source::Password { username: username.clone(), file })
            }
            CredentialSource::Token { token_file } => {
                ReloadedFile::open(token_file, one_secret).map(|file| Source::Token { file })
            }
            CredentialSource::DockerConfig { file } => {
                ReloadedFile::open(file, DockerConfig::parse).map(|file| Source::DockerConfig { file })
            }
        };
        let sources = sources
            .iter()
            .map(open)
            .collect::<Result<_, _>>()
            .map_err(|problem| SetupError { registry: registry.to_string(), problem })?;
        Ok(Self { registry: registry.clone(), sources })
    }

    /// The credential for a repository, or for the registry as a whole. Of several docker configs, the most specific entry
    /// counts, whichever file it is in; of equals, the first.
    pub(super) async fn find(&self, repository: Option<&Repository>) -> Option<Credential> {
        let mut best: Option<(Specificity, Credential)> = None;
        for source in &self.sources {
            let found = match source {
                // These are for every repository: nothing after them is looked at.
                Source::Password { username, file } if best.is_none() => {
                    return Some(Credential::password(username.clone(), (*file.get().await).clone()));
                }
                Source::Token { file } if best.is_none() => {
                    return Some(Credential::bearer((*file.get().await).clone()));
                }
                Source::Password { .. } | Source::Token { .. } => break,
                Source::DockerConfig { file } => file.get().await.find(&self.registry, repository),
            };
            if let Some(found) = found
                && best.as_ref().is_none_or(|(specificity, _)| *specificity < found.0)
            {
                best = Some(found);
            }
        }
        best.map(|(_, credential)| credential)
    }

    /// Looks at every file at once, because the registry refused `refused`, and returns the credential if it is now
    /// another one: between a rotation and the next look, no call fails.
    pub(super) async fn replaced(
        &self,
        repository: Option<&Repository>,
        refused: CredentialId,
    ) -> Option<Credential> {
        for source in &self.sources {
            match source {
                Source::Password { file, .. } | Source::Token { file } => file.refresh().await,
                Source::DockerConfig { file } => file.refresh().await,
            }
        }
        self.find(repository).await.filter(|credential| credential.id() != refused)
    }
}

/// A file that holds one secret and nothing else, but for a line break that editors add.
pub(super) fn one_secret(bytes: &[u8]) -> Result<SecretString, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not text".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err("empty".to_owned());
    }
    if text.contains(['\r', '\n', '\0']) {
        return Err("holds more than one line".to_owned());
    }
    Ok(text.into())
}

/// `Basic` of RFC 7617, marked as a secret.
pub(super) fn basic(username: &str, password: &SecretString) -> HeaderValue {
    let pair = SecretString::from(format!("{username}:{}", password.expose_secret()));
    let encoded = SecretString::from(format!("Basic {}", STANDARD.encode(pair.expose_secret())));
    // Base64 is always a valid header value.
    let mut value =
        HeaderValue::from_str(encoded.expose_secret()).unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}
