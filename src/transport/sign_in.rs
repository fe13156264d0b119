//! Signing in: what to show with a request, and what to do when the registry is not content with it.
//!
//! One [`SignIn`] lives as long as one call. It begins with what is known – the credential for the repository and the
//! challenge the registry gave last – and changes its mind at most a few times: each change answers a 401 or 403 that
//! told something new. What no rule here answers is the caller's error.

use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::{
    Scope, Upstream,
    answer::Rejection,
    challenge::{AuthScheme, Challenge, Realm},
    credentials::{Credential, Secret, basic},
    token::Token,
};
use crate::error::{Refusal, RexError};

/// Every change answers something new: a challenge, an expired token, a rotated file, Harbor's catalog. Four are enough
/// for all of them in one call; a registry that wants more plays games.
const MAX_CHANGES: u32 = 4;

/// The state of one call's sign-in.
pub(super) struct SignIn<'a> {
    upstream: &'a Upstream,
    scope: &'a Scope,
    credential: Option<Credential>,
    shown: Shown,
    changes: u32,
    began: Instant,
    rotated: bool,
}

/// What went with the request.
enum Shown {
    Nothing,
    Basic(HeaderValue),
    Token(Token, Realm, HeaderValue),
    Static(HeaderValue),
}

impl<'a> SignIn<'a> {
    /// Prepares what is known; asks `/v2/` for the challenge when there are credentials and nothing is known yet.
    pub(super) async fn begin(upstream: &'a Upstream, scope: &'a Scope) -> Result<Self, RexError> {
        let credential = upstream.credentials.find(scope.repository()).await;
        let began = Instant::now();
        let mut sign_in =
            Self { upstream, scope, credential, shown: Shown::Nothing, changes: 0, began, rotated: false };
        if let Some(Secret::Bearer(token)) = sign_in.credential.as_ref().map(Credential::secret) {
            sign_in.shown = Shown::Static(sign_in.bearer(token)?);
            if *scope == Scope::Ping && !upstream.learned.is_recent() {
                // The token goes out unasked; what the registry would ask for is part of the answer.
                upstream.learn_challenge().await?;
            }
            return Ok(sign_in);
        }
        let challenge = match upstream.learned.challenge() {
            Some(challenge) => Some(challenge),
            None if sign_in.credential.is_some() && !upstream.learned.is_recent() => {
                upstream.learn_challenge().await?
            }
            None => None,
        };
        match challenge {
            // Nothing to show; the registry will say what it wants.
            Some(Challenge::Basic) if sign_in.pair().is_none() => {}
            Some(_) if *scope == Scope::Ping && sign_in.is_anonymous() => {}
            Some(challenge) => {
                sign_in.meet(&challenge, None).await.inspect_err(|_| upstream.learned.doubt(&challenge))?
            }
            None => {}
        }
        Ok(sign_in)
    }

    /// The value of `Authorization`, if any.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        match &self.shown {
            Shown::Nothing => None,
            Shown::Basic(value) | Shown::Token(_, _, value) | Shown::Static(value) => Some(value),
        }
    }

    /// What the registry asked for, as far as this call knows.
    pub(super) fn scheme(&self) -> AuthScheme {
        match (&self.shown, self.upstream.learned.challenge()) {
            (Shown::Basic(_), _) => AuthScheme::Basic,
            (Shown::Token(..), _) => AuthScheme::Bearer,
            (Shown::Nothing | Shown::Static(_), Some(challenge)) => challenge.scheme(),
            (Shown::Nothing | Shown::Static(_), None) => AuthScheme::None,
        }
    }

    /// Whether there is no credential for this call.
    pub(super) fn is_anonymous(&self) -> bool {
        self.credential.is_none()
    }

    /// Decides what to show next after a 401 or 403; `false` when there is nothing new to show.
    pub(super) async fn answer_to(&mut self, rejection: &Rejection) -> Result<bool, RexError> {
        if self.changes >= MAX_CHANGES {
            return Ok(false);
        }
        self.changes += 1;
        let unauthorized = rejection.status() == 401;
        let challenge = if unauthorized { self.challenge_of(rejection).await? } else { None };
        let before = std::mem::replace(&mut self.shown, Shown::Nothing);
        match (before, challenge) {
            (Shown::Nothing, Some(challenge)) => self.meet(&challenge, None).await?,
            // Another token service than the one this token is from: some registries have one for each part (nvcr.io).
            (Shown::Token(_, realm, _), Some(challenge @ Challenge::Bearer(_)))
                if challenge != Challenge::Bearer(realm.clone()) =>
            {
                self.meet(&challenge, None).await?;
            }
            (Shown::Token(token, realm, _), _) => {
                // A token that this very call fetched is not refused because it is old, unless it has become so since.
                let old = token.fetched < self.began || token.is_over();
                if old && (unauthorized || rejection.says_expired) {
                    self.began = Instant::now();
                    self.meet(&Challenge::Bearer(realm), Some(&token)).await?;
                } else if *self.scope == Scope::Catalog && self.pair().is_some() {
                    // Harbor's catalog wants Basic of an administrator, whatever its challenge says (harbor#13573).
                    self.meet(&Challenge::Basic, None).await?;
                } else {
                    return self.rotate().await;
                }
            }
            (Shown::Basic(_), Some(challenge @ Challenge::Bearer(_))) if *self.scope != Scope::Catalog => {
                self.meet(&challenge, None).await?;
            }
            (Shown::Basic(_) | Shown::Static(_), _) => return self.rotate().await,
            (Shown::Nothing, None) => return Ok(false),
        }
        Ok(true)
    }

    /// The challenge of a 401: its own, else the one that is known, else what `/v2/` says (Google's registries send none
    /// with the real request).
    async fn challenge_of(&self, rejection: &Rejection) -> Result<Option<Challenge>, RexError> {
        if let Some(challenge) = Challenge::preferred(&rejection.headers) {
            self.upstream.learned.note(challenge.clone());
            return Ok(Some(challenge));
        }
        match self.upstream.learned.challenge() {
            Some(challenge) => Ok(Some(challenge)),
            None => self.upstream.learn_challenge().await,
        }
    }

    /// Prepares what a challenge asks for.
    async fn meet(&mut self, challenge: &Challenge, refused: Option<&Token>) -> Result<(), RexError> {
        self.shown = match challenge {
            Challenge::Basic => {
                let Some((username, password)) = self.pair() else {
                    let problem =
                        "the registry wants a user name and a password, and none is configured for it";
                    return Err(self.unauthenticated(problem));
                };
                Shown::Basic(basic(username, password))
            }
            Challenge::Bearer(realm) => {
                let tokens = &self.upstream.tokens;
                let token =
                    tokens.get(self.upstream, realm, self.scope, self.credential.as_ref(), refused).await;
                let token = match token {
                    // A credential that the token service refuses may have been replaced in this very second.
                    Err(error @ RexError::Authentication { .. }) if !self.rotated => {
                        self.rotated = true;
                        if !self.take_replacement().await {
                            return Err(error);
                        }
                        tokens.get(self.upstream, realm, self.scope, self.credential.as_ref(), None).await?
                    }
                    token => token?,
                };
                let value = self.bearer(&token.secret)?;
                Shown::Token(token, realm.clone(), value)
            }
        };
        Ok(())
    }

    /// Looks whether the refused credential's file has changed, and shows the new one.
    async fn rotate(&mut self) -> Result<bool, RexError> {
        if std::mem::replace(&mut self.rotated, true) || !self.take_replacement().await {
            return Ok(false);
        }
        if let Some(Secret::Bearer(token)) = self.credential.as_ref().map(Credential::secret) {
            self.shown = Shown::Static(self.bearer(token)?);
        } else if let Some(challenge) = self.upstream.learned.challenge() {
            self.meet(&challenge, None).await?;
        }
        Ok(true)
    }

    async fn take_replacement(&mut self) -> bool {
        let Some(refused) = self.credential.as_ref().map(Credential::id) else {
            return false;
        };
        let replacement = self.upstream.credentials.replaced(self.scope.repository(), refused).await;
        let found = replacement.is_some();
        self.credential = replacement.or(self.credential.take());
        found
    }

    fn pair(&self) -> Option<(&str, &SecretString)> {
        self.credential.as_ref().and_then(Credential::pair)
    }

    fn bearer(&self, token: &SecretString) -> Result<HeaderValue, RexError> {
        let text = SecretString::from(format!("Bearer {}", token.expose_secret()));
        let mut value = HeaderValue::from_str(text.expose_secret()).map_err(|_| RexError::Validation {
            at: self.upstream.at(self.scope.repository()),
            problem: "the token holds characters that a header cannot carry".to_owned(),
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn unauthenticated(&self, problem: &str) -> RexError {
        let mut at = self.upstream.at(self.scope.repository());
        at.http_status = Some(401);
        RexError::Authentication { at, refusal: Refusal::Unauthenticated, problem: problem.to_owned() }
    }
}
