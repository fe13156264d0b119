//! One credential, and an identity that distinguishes it from others.

use std::{fmt, num::NonZeroU32, sync::Arc};

use aws_lc_rs::pbkdf2;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// Identifies a credential in the keys of caches. It is a hash, never the secret itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialId([u8; 32]);

/// How often PBKDF2 hashes: 60 ms of one core for each guess at a password.
const STRETCHES: NonZeroU32 = NonZeroU32::new(200_000).unwrap();

impl CredentialId {
    /// An identity for places that others can read: a short password is not to be guessed from it. Takes too long for the
    /// runtime's threads.
    #[must_use]
    pub fn stretched(&self) -> String {
        let mut key = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, STRETCHES, b"rexd credential", &self.0, &mut key);
        STANDARD.encode(key)
    }
}

impl fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not even the hash is printed: a short password could be guessed from it.
        f.write_str("CredentialId(…)")
    }
}

/// A credential for a registry.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    id: CredentialId,
    secret: Arc<Secret>,
}

/// The secret of a credential.
#[derive(Debug)]
pub(super) enum Secret {
    /// A user name and a password, for Basic and for token services.
    Password { username: String, password: SecretString },
    /// A token for the token service's OAuth2 exchange, and the user name and password that some services require instead.
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

    /// The user name and password, if the credential has them.
    pub(super) fn pair(&self) -> Option<(&str, &SecretString)> {
        match &*self.secret {
            Secret::Password { username, password } => Some((username, password)),
            Secret::Identity { pair, .. } => {
                pair.as_ref().map(|(username, password)| (username.as_str(), password))
            }
            Secret::Bearer(_) => None,
        }
    }

    /// The user name, if the credential has one.
    #[cfg(test)]
    pub(super) fn username(&self) -> Option<&str> {
        self.pair().map(|(username, _)| username)
    }
}

/// Each part is length-prefixed, so that different lists of parts never hash the same bytes.
fn identify(kind: &str, parts: &[&str]) -> CredentialId {
    let mut hash = Sha256::new();
    for part in std::iter::once(&kind).chain(parts) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    CredentialId(hash.finalize().into())
}

/// The `Authorization` value of Basic (RFC 7617), marked as sensitive.
pub(super) fn basic(username: &str, password: &SecretString) -> HeaderValue {
    let pair = SecretString::from(format!("{username}:{}", password.expose_secret()));
    let encoded = SecretString::from(format!("Basic {}", STANDARD.encode(pair.expose_secret())));
    // Base64 is always a valid header value.
    let mut value =
        HeaderValue::from_str(encoded.expose_secret()).unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}
