//! Tokens: the exchange with a registry's token service, and the cache of what it gave.
//!
//! The protocol is Docker's ("Token Authentication Specification" and "Oauth2 Token Authentication" of distribution):
//! GET with `service` and `scope`, signed in with Basic where there is a password; POST with
//! `grant_type=refresh_token` for an identity token.
//!
//! The cache's key holds everything that makes tokens different – credential, registry, realm, service, scope – so that no
//! token serves another caller's credential or another repository. Calls that miss together share one exchange.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use moka::{Expiry, future::Cache};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use url::{Url, form_urlencoded};

use super::{
    Scope, Upstream,
    challenge::Realm,
    connect::Protocol,
    credentials::{self, Credential, CredentialId, Secret},
    egress::Admission,
};
use crate::error::{At, Refusal, RexError};

/// Tokens kept for one registry; a token is a few KiB at most, so this is some MiB.
const CAPACITY: u64 = 1_000;

/// `expires_in` when the token service does not say (Docker token protocol).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// Longer lifetimes are taken as this.
const MAX_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// A token is renewed when a quarter of its life is left, at most this long before its end.
const MAX_MARGIN: Duration = Duration::from_secs(15);

/// What this client calls itself towards OAuth2 token services.
const CLIENT_ID: &str = "rexd";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    credential: Option<CredentialId>,
    registry: String,
    realm: Realm,
    scope: Scope,
}

/// A token, and which exchange it came from.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) secret: SecretString,
    lifetime: Duration,
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
pub(super) struct Tokens(Cache<Key, Token>);

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

impl Tokens {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).expire_after(Lifetime).build())
    }

    /// The token for a scope, from the cache or from one exchange that all who miss now share.
    ///
    /// `refused` is a token that the registry no longer takes; it is not returned again.
    pub(super) async fn get(
        &self,
        upstream: &Upstream,
        realm: &Realm,
        scope: &Scope,
        credential: Option<&Credential>,
        refused: Option<&Token>,
    ) -> Result<Token, RexError> {
        let key = Key {
            credential: credential.map(Credential::id),
            registry: upstream.registry().to_string(),
            realm: realm.clone(),
            scope: scope.clone(),
        };
        if let Some(refused) = refused
            && self.0.get(&key).await.is_some_and(|cached| cached.fetched == refused.fetched)
        {
            self.0.invalidate(&key).await;
        }
        self.0
            .try_get_with(key, exchange(upstream, realm, scope, credential))
            .await
            .map_err(|error: Arc<RexError>| (*error).clone())
    }
}

/// Fetches a token.
async fn exchange(
    upstream: &Upstream,
    realm: &Realm,
    scope: &Scope,
    credential: Option<&Credential>,
) -> Result<Token, RexError> {
    let at = upstream.at(scope.repository());
    let not_allowed = |problem| RexError::RegistryNotAllowed { at: at.clone(), problem };
    let admission =
        upstream.guard.admit(&realm.url).map_err(|problem| not_allowed(format!("token realm: {problem}")))?;
    if credential.is_some() && !upstream.guard.may_receive_credentials(&realm.url) {
        let host = realm.url.host_str().unwrap_or_default();
        return Err(not_allowed(format!(
            "the registry names {host} as its token service, which may not receive credentials; if it is meant, add its \
             origin to the registry's token_realms",
        )));
    }
    let (post, pair) = match credential.map(Credential::secret) {
        Some(Secret::Identity { token, pair }) => {
            (Some(token), pair.as_ref().map(|(user, pass)| (user.as_str(), pass)))
        }
        Some(Secret::Password { username, password }) => (None, Some((username.as_str(), password))),
        Some(Secret::Bearer(_)) | None => (None, None),
    };
    if let Some(identity) = post {
        let answer = Exchange { upstream, realm, scope, admission, at: &at }.post(identity).await?;
        // ACR answers 400, Artifactory 401, others 404 or 405 to a POST they do not support.
        let refused = matches!(answer.status.as_u16(), 400 | 401 | 404 | 405);
        if !(refused && pair.is_some()) {
            return answer.token(at);
        }
    }
    Exchange { upstream, realm, scope, admission, at: &at }.get(pair).await?.token(at)
}

struct Exchange<'a> {
    upstream: &'a Upstream,
    realm: &'a Realm,
    scope: &'a Scope,
    admission: Admission,
    at: &'a At,
}

impl Exchange<'_> {
    /// The realm, without what this client says itself: of a key that is there twice, each service takes another value.
    /// A `service` that the challenge gives only there is kept.
    fn url(&self) -> Url {
        let said = |pair: &&str| {
            let key = form_urlencoded::parse(pair.as_bytes()).next().map(|(key, _)| key);
            match key.as_deref() {
                Some("scope" | "account" | "client_id") => true,
                Some("service") => self.realm.service.is_some(),
                _ => false,
            }
        };
        let mut url = self.realm.url.clone();
        let kept: Option<Vec<_>> =
            url.query().map(|query| query.split('&').filter(|pair| !said(pair)).collect());
        let kept = kept.map(|pairs| pairs.join("&"));
        url.set_query(kept.as_deref().filter(|query| !query.is_empty()));
        url
    }

    async fn get(&self, pair: Option<(&str, &SecretString)>) -> Result<TokenAnswer, RexError> {
        let mut url = self.url();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &self.realm.service {
                query.append_pair("service", service);
            }
            if let Some(scope) = self.scope.text() {
                query.append_pair("scope", &scope);
            }
            query.append_pair("client_id", CLIENT_ID);
            if let Some((username, _)) = pair {
                query.append_pair("account", username);
            }
        }
        if url.query() == Some("") {
            url.set_query(None);
        }
        let mut request = reqwest::Request::new(Method::GET, url);
        if let Some((username, password)) = pair {
            let basic = credentials::basic(username, password);
            request.headers_mut().insert(header::AUTHORIZATION, basic);
        }
        self.send(request).await
    }

    async fn post(&self, identity: &SecretString) -> Result<TokenAnswer, RexError> {
        let mut request = reqwest::Request::new(Method::POST, self.url());
        let form_type = header::HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, form_type);
        *request.body_mut() = Some(self.form(identity).into());
        self.send(request).await
    }

    fn form(&self, identity: &SecretString) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
        form.append_pair("refresh_token", identity.expose_secret());
        if let Some(service) = &self.realm.service {
            form.append_pair("service", service);
        }
        if let Some(scope) = self.scope.text() {
            form.append_pair("scope", &scope);
        }
        form.finish()
    }

    /// Sends, and sends again under the same budget as any request. Redirects are not followed: credentials are in it.
    async fn send(&self, mut request: reqwest::Request) -> Result<TokenAnswer, RexError> {
        let url = request.url().clone();
        if self.upstream.guard.is_registry(&url) {
            // A gateway before the registry wants its headers for tokens too.
            request.headers_mut().extend(self.upstream.settings.headers.clone());
        }
        let answer = self
            .upstream
            .with_retries(self.at, None, || async {
                let request = request.try_clone().ok_or_else(|| RexError::Validation {
                    at: self.at.clone(),
                    problem: "a token request cannot be repeated".to_owned(),
                })?;
                let client = self.upstream.clients.get(self.admission, Protocol::Any);
                self.upstream.exchange(client, request, self.at).await
            })
            .await?;
        let (status, retry_after) = (answer.status(), answer.retry_after());
        let from = url.host_str().unwrap_or_default().to_owned();
        let limit = self.upstream.settings.auth_body_bytes;
        let body = if status.is_success() { answer.read("token answer", limit).await? } else { Bytes::new() };
        Ok(TokenAnswer { status, retry_after, from, body, fetched: Instant::now() })
    }
}

struct TokenAnswer {
    status: StatusCode,
    retry_after: Option<Duration>,
    from: String,
    /// Holds the token; so this type has no Debug.
    body: Bytes,
    fetched: Instant,
}

#[derive(Deserialize)]
struct Body {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
    expires_in: Option<serde_json::Number>,
}

impl TokenAnswer {
    fn token(self, mut at: At) -> Result<Token, RexError> {
        let from = self.from;
        at.http_status = Some(self.status.as_u16());
        let authentication = |at, refusal, problem| Err(RexError::Authentication { at, refusal, problem });
        match self.status.as_u16() {
            200..=299 => {}
            401 => {
                let problem = format!("the token service {from} does not accept the credentials");
                return authentication(at, Refusal::Unauthenticated, problem);
            }
            400 | 403 | 404 => {
                let problem = format!("the token service {from} refuses a token");
                return authentication(at, Refusal::Denied, problem);
            }
            429 => {
                let retry_after = self.retry_after;
                return Err(RexError::RateLimit { at, retry_after });
            }
            500..=599 => {
                let retry_after = self.retry_after;
                return Err(RexError::Server { at, retry_after });
            }
            status => {
                let problem = format!("the token service {from} answered with status {status}");
                return Err(RexError::Validation { at, problem });
            }
        }
        let invalid = |at, problem: &str| RexError::Validation {
            at,
            problem: format!("the token service {from}: {problem}"),
        };
        let Ok(body) = serde_json::from_slice::<Body>(&self.body) else {
            return Err(invalid(at, "its answer is not a token in JSON"));
        };
        let filled =
            |secret: Option<SecretString>| secret.filter(|secret| !secret.expose_secret().is_empty());
        let Some(secret) = filled(body.token).or(filled(body.access_token)) else {
            return Err(invalid(at, "its answer holds neither token nor access_token"));
        };
        let seconds = body.expires_in.and_then(|number| number.as_f64()).filter(|seconds| *seconds > 0.0);
        let lifetime =
            seconds.map_or(DEFAULT_LIFETIME, |s| Duration::from_secs_f64(s.min(MAX_LIFETIME.as_secs_f64())));
        Ok(Token { secret, lifetime, fetched: self.fetched })
    }
}
