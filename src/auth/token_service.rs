//! The exchange with a registry's token service.
//!
//! The protocol is Docker's ("Token Authentication Specification" and "Oauth2 Token Authentication" of distribution):
//! GET with `service` and `scope`, with Basic if there is a password; POST with `grant_type=refresh_token` for an
//! identity token.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use url::{Url, form_urlencoded};

use super::{
    challenge::Realm,
    credential::{self, Credential, Secret},
    scope::Scope,
    token::Token,
};
use crate::{
    error::{At, Refusal, RexError},
    http::{CallContext, Pace, TokenRequest, Transport, Trust},
};

/// The lifetime if the token service sends no `expires_in` (Docker token protocol).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// Longer lifetimes are reduced to this.
const MAX_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// This client's name for OAuth2 token services.
const CLIENT_ID: &str = "rexd";

/// The token services of one registry.
#[derive(Debug)]
pub(super) struct TokenService {
    transport: Arc<Transport>,
    /// A token service that limits its rate, or fails, does not slow down the registry's own requests.
    pace: Pace,
}

impl TokenService {
    pub(super) fn new(transport: Arc<Transport>) -> Self {
        Self { transport, pace: Pace::new() }
    }

    /// Waits while the token service has asked for a pause. It is an error, at once, when the pause outlasts the deadline.
    pub(super) async fn wait_for_pause(&self, scope: &Scope, call: &CallContext) -> Result<(), RexError> {
        self.pace.wait(&self.transport.at(scope.repository()), call.deadline()).await
    }

    /// Fetches a token.
    pub(super) async fn exchange(
        &self,
        realm: &Realm,
        scope: &Scope,
        credential: Option<&Credential>,
        call: &CallContext,
    ) -> Result<Token, RexError> {
        let at = self.transport.at(scope.repository());
        let trust = self
            .transport
            .admit_token_service(&realm.url, credential.is_some())
            .map_err(|problem| RexError::RegistryNotAllowed { at: at.clone(), problem })?;
        let (identity, pair) = match credential.map(Credential::secret) {
            Some(Secret::Identity { token, pair }) => {
                (Some(token), pair.as_ref().map(|(user, pass)| (user.as_str(), pass)))
            }
            Some(Secret::Password { username, password }) => (None, Some((username.as_str(), password))),
            Some(Secret::Bearer(_)) | None => (None, None),
        };
        let exchange = Exchange { service: self, realm, scope, trust, call, at: &at };
        if let Some(identity) = identity {
            let response = exchange.post(identity).await?;
            // ACR responds with 400, Artifactory with 401, others with 404 or 405 to a POST that they do not support.
            let unsupported = matches!(response.status.as_u16(), 400 | 401 | 404 | 405);
            if !(unsupported && pair.is_some()) {
                return response.token(at);
            }
        }
        exchange.get(pair).await?.token(at)
    }
}

/// One exchange, with the parts that GET and POST share.
struct Exchange<'a> {
    service: &'a TokenService,
    realm: &'a Realm,
    scope: &'a Scope,
    trust: Trust,
    call: &'a CallContext,
    at: &'a At,
}

impl Exchange<'_> {
    /// The realm, without the parameters that the request adds itself: services differ in which value of a repeated key
    /// they use. If the challenge has no `service`, the realm's own is kept.
    fn url(&self) -> Url {
        let is_replaced = |pair: &&str| {
            let key = form_urlencoded::parse(pair.as_bytes()).next().map(|(key, _)| key);
            match key.as_deref() {
                Some("scope" | "account" | "client_id") => true,
                Some("service") => self.realm.service.is_some(),
                _ => false,
            }
        };
        let mut url = self.realm.url.clone();
        let kept: Option<Vec<_>> =
            url.query().map(|query| query.split('&').filter(|pair| !is_replaced(pair)).collect());
        let kept = kept.map(|pairs| pairs.join("&"));
        url.set_query(kept.as_deref().filter(|query| !query.is_empty()));
        url
    }

    async fn get(&self, pair: Option<(&str, &SecretString)>) -> Result<TokenResponse, RexError> {
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
        let mut headers = HeaderMap::new();
        if let Some((username, password)) = pair {
            headers.insert(header::AUTHORIZATION, credential::basic(username, password));
        }
        self.send(url, headers, None).await
    }

    async fn post(&self, identity: &SecretString) -> Result<TokenResponse, RexError> {
        self.send(self.url(), HeaderMap::new(), Some(self.form(identity))).await
    }

    fn form(&self, identity: &SecretString) -> SecretString {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
        form.append_pair("refresh_token", identity.expose_secret());
        if let Some(service) = &self.realm.service {
            form.append_pair("service", service);
        }
        if let Some(scope) = self.scope.text() {
            form.append_pair("scope", &scope);
        }
        form.finish().into()
    }

    async fn send(
        &self,
        url: Url,
        headers: HeaderMap,
        form: Option<SecretString>,
    ) -> Result<TokenResponse, RexError> {
        let from = url.host_str().unwrap_or_default().to_owned();
        let request = TokenRequest { url, headers, form, call: self.call, at: self.at.clone() };
        let transport = &self.service.transport;
        let response = transport.send_token_request(self.trust, &self.service.pace, request).await?;
        let (status, retry_after) = (response.status(), response.retry_after());
        let limit = transport.auth_body_bytes();
        let body =
            if status.is_success() { response.read("token response", limit).await? } else { Bytes::new() };
        Ok(TokenResponse { status, retry_after, from, body, fetched: Instant::now() })
    }
}

/// The response of a token service.
struct TokenResponse {
    status: StatusCode,
    retry_after: Option<Duration>,
    from: String,
    /// Holds the token, so this type has no `Debug`.
    body: Bytes,
    fetched: Instant,
}

#[derive(Deserialize)]
struct Body {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
    expires_in: Option<serde_json::Number>,
}

impl TokenResponse {
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
                let problem = format!("the token service {from} responded with status {status}");
                return Err(RexError::Validation { at, problem });
            }
        }
        let invalid = |at, problem: &str| RexError::Validation {
            at,
            problem: format!("the token service {from}: {problem}"),
        };
        let Ok(body) = serde_json::from_slice::<Body>(&self.body) else {
            return Err(invalid(at, "its response is not a token in JSON"));
        };
        let filled =
            |secret: Option<SecretString>| secret.filter(|secret| !secret.expose_secret().is_empty());
        let Some(secret) = filled(body.token).or(filled(body.access_token)) else {
            return Err(invalid(at, "its response holds neither token nor access_token"));
        };
        let seconds = body.expires_in.and_then(|number| number.as_f64()).filter(|seconds| *seconds > 0.0);
        let lifetime =
            seconds.map_or(DEFAULT_LIFETIME, |s| Duration::from_secs_f64(s.min(MAX_LIFETIME.as_secs_f64())));
        Ok(Token { secret, lifetime, fetched: self.fetched })
    }
}
