//! The sources of credentials, and the choice of one for a repository.
//!
//! Each source is read when the service starts. A source that cannot be read then is an error: the service never falls
//! back to anonymous access. [`ReloadedFile`] picks up later changes. The service never runs a credential helper.

use std::path::PathBuf;

use secrecy::SecretString;

use super::{
    credential::{Credential, CredentialId},
    docker_config::{DockerConfig, Specificity},
};
use crate::{
    oci::{Registry, Repository},
    reloaded_file::ReloadedFile,
    secret,
};

/// Where credentials come from. Files are read at start, and again when they change.
#[derive(Debug, Clone)]
pub enum CredentialSource {
    /// A user name, and a file that holds the password.
    Password {
        /// The user name.
        username: String,
        /// The file. One trailing line break is not part of the password.
        password_file: PathBuf,
    },
    /// A file that holds a bearer token, which is sent unchanged.
    Token {
        /// The file. One trailing line break is not part of the token.
        token_file: PathBuf,
    },
    /// A docker `config.json` or Kubernetes `.dockerconfigjson`.
    DockerConfig {
        /// The file.
        file: PathBuf,
    },
}

/// The credential sources of one registry, in the order of the configuration.
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
    pub(super) fn open(registry: &Registry, sources: &[CredentialSource]) -> Result<Self, String> {
        let open = |source: &CredentialSource| match source {
            CredentialSource::Password { username, password_file } => {
                ReloadedFile::open(password_file, secret::from_file)
                    .map(|file| Source::Password { username: username.clone(), file })
            }
            CredentialSource::Token { token_file } => {
                ReloadedFile::open(token_file, secret::from_file).map(|file| Source::Token { file })
            }
            CredentialSource::DockerConfig { file } => {
                ReloadedFile::open(file, DockerConfig::parse).map(|file| Source::DockerConfig { file })
            }
        };
        let sources = sources.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { registry: registry.clone(), sources })
    }

    /// The credential for a repository, or for the registry as a whole. The most specific entry of all docker configs wins;
    /// of equally specific entries, the first.
    pub(super) async fn find(&self, repository: Option<&Repository>) -> Option<Credential> {
        let mut best: Option<(Specificity, Credential)> = None;
        for source in &self.sources {
            let found = match source {
                // These are for every repository, so no later source can apply.
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

    /// Reads every file again now, because the registry refused the credential `refused`, and returns the credential if it
    /// has changed. So a call between a rotation and the next regular read does not fail.
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
