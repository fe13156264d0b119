//! The state of signing in to one registry, which all its calls share.

use std::sync::Arc;

use http::{HeaderMap, Method};

use super::{
    challenge::{Challenge, Realm},
    challenge_cache::ChallengeCache,
    credential::{Credential, CredentialId},
    credentials::{CredentialSource, Credentials},
    scope::Scope,
    token::{Token, TokenCache},
    token_service::TokenService,
};
use crate::{
    error::RexError,
    http::{Bound, CallContext, Protocol, Request, Transport},
    oci::Repository,
};

/// Signs in to one registry. It uses [`Transport`] for two requests only: for the challenge of `/v2/`, and for tokens.
#[derive(Debug)]
pub(crate) struct Authenticator {
    transport: Arc<Transport>,
    credentials: Credentials,
    challenges: ChallengeCache,
    tokens: TokenCache,
    token_service: TokenService,
}

impl Authenticator {
    /// Reads every file that the sources name. The error names the file.
    pub(crate) fn new(transport: Arc<Transport>, sources: &[CredentialSource]) -> Result<Self, String> {
        Ok(Self {
            credentials: Credentials::open(transport.registry(), sources)?,
            challenges: ChallengeCache::default(),
            tokens: TokenCache::new(),
            token_service: TokenService::new(Arc::clone(&transport)),
            transport,
        })
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The identity of the credential for a repository, or for the registry as a whole.
    pub(crate) async fn credential(&self, repository: Option<&Repository>) -> Option<CredentialId> {
        Some(self.credentials.find(repository).await?.id())
    }

    pub(super) fn challenges(&self) -> &ChallengeCache {
        &self.challenges
    }

    /// The challenge of `/v2/`. All callers that do not know it share one request.
    pub(super) async fn ask_for_challenge(&self, call: &CallContext) -> Result<Option<Challenge>, RexError> {
        self.challenges
            .ask(async {
                let request = Request {
                    method: Method::GET,
                    url: self.transport.base(),
                    headers: HeaderMap::new(),
                    protocol: Protocol::Any,
                    // There is one such request at a time. A call that waited for a permit here would make others wait
                    // past their deadlines.
                    bound: Bound::None,
                    shared: true,
                    call,
                    at: self.transport.at(None),
                };
                let response = self.transport.send(&request, None).await?;
                let is_challenge = response.status().as_u16() == 401;
                Ok(Challenge::preferred(response.headers()).filter(|_| is_challenge))
            })
            .await
    }

    /// The token for a scope, from the cache or from one exchange that all waiting callers share. `refused` is a token
    /// that the registry no longer accepts.
    pub(super) async fn token(
        &self,
        realm: &Realm,
        scope: &Scope,
        credential: Option<&Credential>,
        refused: Option<&Token>,
        call: &CallContext,
    ) -> Result<Token, RexError> {
        // Callers share the exchange, so it has no deadline: but each waits for a pause no longer than its own allows.
        let pause = self.token_service.wait_for_pause(scope, call);
        let exchange = self.token_service.exchange(realm, scope, credential, call);
        self.tokens.get(realm, scope, credential, refused, pause, exchange).await
    }
}
