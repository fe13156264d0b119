//! Tokens of one registry, and the cache that keeps them.
//!
//! The cache's key holds everything that makes tokens different – credential, realm, service, scope – and each registry has
//! a cache of its own. So no token is used with another credential, registry or repository. Calls that need the same token
//! share one exchange.

use std::{sync::Arc, time::Duration};

use moka::{Expiry, future::Cache};
use secrecy::SecretString;
use tokio::time::Instant;

use super::{
    challenge::Realm,
    credential::{Credential, CredentialId},
    scope::Scope,
};
use crate::error::RexError;

/// Tokens kept for one registry; a token is a few KiB at most, so this is some MiB.
const CAPACITY: u64 = 1_000;

/// A token is renewed when a quarter of its lifetime is left, but at most this long before it expires.
const MAX_MARGIN: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    credential: Option<CredentialId>,
    realm: Realm,
    scope: Scope,
}

/// A token, and the time when it was fetched.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) secret: SecretString,
    pub(super) lifetime: Duration,
    pub(super) fetched: Instant,
}

impl Token {
    /// Whether its lifetime has passed.
    pub(super) fn is_over(&self) -> bool {
        self.fetched.elapsed() >= self.lifetime
    }
}

/// The tokens of one registry.
#[derive(Debug)]
pub(super) struct TokenCache(Cache<Key, Token>);

struct Lifetime;

impl Expiry<Key, Token> for Lifetime {
    fn expire_after_create(&self, _: &Key, token: &Token, _: std::time::Instant) -> Option<Duration> {
        let margin = (token.lifetime / 4).min(MAX_MARGIN);
        Some(token.lifetime.saturating_sub(margin).saturating_sub(token.fetched.elapsed()))
    }

    fn expire_after_update(
        &self,
        key: &Key,
        token: &Token,
        now: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, token, now)
    }
}

impl TokenCache {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).expire_after(Lifetime).build())
    }

    /// The token for a scope, from the cache or from `exchange`, which callers share. Each of them awaits its own `pause`
    /// first. `refused` is a token that the registry no longer accepts; it is not returned again.
    pub(super) async fn get(
        &self,
        realm: &Realm,
        scope: &Scope,
        credential: Option<&Credential>,
        refused: Option<&Token>,
        pause: impl Future<Output = Result<(), RexError>>,
        exchange: impl Future<Output = Result<Token, RexError>>,
    ) -> Result<Token, RexError> {
        let key =
            Key { credential: credential.map(Credential::id), realm: realm.clone(), scope: scope.clone() };
        if let Some(refused) = refused
            && self.0.get(&key).await.is_some_and(|cached| cached.fetched == refused.fetched)
        {
            self.0.invalidate(&key).await;
        }
        if !self.0.contains_key(&key) {
            pause.await?;
        }
        self.0.try_get_with(key, exchange).await.map_err(|error: Arc<RexError>| (*error).clone())
    }
}
