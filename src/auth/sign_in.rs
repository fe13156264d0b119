//! Signing in: what to send as `Authorization`, and what to do when the registry refuses it.
//!
//! One [`SignIn`] lives as long as one call. It begins with the credential for the repository and the challenge that the
//! registry gave last. A 401 or 403 with new information changes what is sent, at most a few times. Any other 401 or
//! 403 becomes the caller's error.

use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::{
    authenticator::Authenticator,
    challenge::{AuthScheme, Challenge, Realm},
    credential::{Credential, Secret, basic},
    scope::Scope,
    token::Token,
};
use crate::{
    error::{Refusal, RexError},
    http::{CallContext, ErrorResponse},
};

/// The reasons for a change are a challenge, an expired token, a rotated file, and Harbor's catalog. Four changes cover all
/// of them in one call. A registry that causes more is broken or hostile.
const MAX_CHANGES: u32 = 4;

/// The state of one call's sign-in.
pub(crate) struct SignIn<'a> {
    auth: &'a Authenticator,
    scope: &'a Scope,
    call: &'a CallContext,
    credential: Option<Credential>,
    sent: Sent,
    changes: u32,
    began: Instant,
    rotated: bool,
    /// Whether the registry refused Basic with this credential.
    basic_refused: bool,
}

/// What the request carries.
enum Sent {
    Nothing,
    Basic(HeaderValue),
    Token(Token, Realm, HeaderValue),
    Static(HeaderValue),
}

impl<'a> SignIn<'a> {
    /// Prepares the first request. Requests the challenge of `/v2/` if there are credentials and no challenge is known yet.
    pub(crate) async fn begin(
        auth: &'a Authenticator,
        scope: &'a Scope,
        call: &'a CallContext,
    ) -> Result<Self, RexError> {
        let credential = auth.credentials().find(scope.repository()).await;
        let began = Instant::now();
        let mut sign_in = Self {
            auth,
            scope,
            call,
            credential,
            sent: Sent::Nothing,
            changes: 0,
            began,
            rotated: false,
            basic_refused: false,
        };
        if let Some(Secret::Bearer(token)) = sign_in.credential.as_ref().map(Credential::secret) {
            sign_in.sent = Sent::Static(sign_in.bearer(token)?);
            if *scope == Scope::Ping && !auth.challenges().is_recent() {
                // The token is sent without a challenge. Ping reports what the registry would require.
                auth.ask_for_challenge(call).await?;
            }
            return Ok(sign_in);
        }
        let challenge = match auth.challenges().challenge(scope) {
            Some(challenge) => Some(challenge),
            None if sign_in.credential.is_some() && !auth.challenges().is_recent() => {
                auth.ask_for_challenge(call).await?
            }
            None => None,
        };
        match challenge {
            // There is no password to send. The registry's response will have a challenge.
            Some(Challenge::Basic) if sign_in.pair().is_none() => {}
            Some(_) if *scope == Scope::Ping && sign_in.is_anonymous() => {}
            Some(challenge) => {
                let met = sign_in.meet(&challenge, None).await;
                met.inspect_err(|_| auth.challenges().forget_if_old(scope, &challenge))?;
            }
            None => {}
        }
        Ok(sign_in)
    }

    /// The value of `Authorization`, if there is one.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        match &self.sent {
            Sent::Nothing => None,
            Sent::Basic(value) | Sent::Token(_, _, value) | Sent::Static(value) => Some(value),
        }
    }

    /// The scheme that the registry asked for, now that it has accepted the request.
    pub(crate) fn scheme(&self) -> AuthScheme {
        match &self.sent {
            Sent::Nothing => AuthScheme::None,
            Sent::Basic(_) => AuthScheme::Basic,
            Sent::Token(..) => AuthScheme::Bearer,
            // It was sent without a challenge, so only the cache may know one.
            Sent::Static(_) => {
                let challenge = self.auth.challenges().challenge(self.scope);
                challenge.map_or(AuthScheme::None, |challenge| challenge.scheme())
            }
        }
    }

    /// Whether there is no credential for this call.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.credential.is_none()
    }

    /// Stores a challenge that this call does not meet itself.
    pub(crate) fn store(&self, challenge: Challenge) {
        self.auth.challenges().store(self.scope, challenge);
    }

    /// Records that the registry accepted the request. If Basic worked for the catalog after a token did not, the next page
    /// begins with Basic, without a token exchange.
    pub(crate) fn accepted(&self) {
        if matches!(self.sent, Sent::Basic(_)) && *self.scope == Scope::Catalog {
            self.store(Challenge::Basic);
        }
    }

    /// Decides what to send after a 401 or 403. `false` when there is nothing new to send.
    pub(crate) async fn retry_after_refusal(&mut self, refusal: &ErrorResponse) -> Result<bool, RexError> {
        if self.changes >= MAX_CHANGES {
            return Ok(false);
        }
        self.changes += 1;
        let unauthorized = refusal.status() == 401;
        let challenge = if unauthorized { self.challenge_of(refusal).await? } else { None };
        let before = std::mem::replace(&mut self.sent, Sent::Nothing);
        self.basic_refused |= matches!(before, Sent::Basic(_));
        match (before, challenge) {
            (Sent::Nothing, Some(challenge)) => self.meet(&challenge, None).await?,
            // The registry names another token service than the one of this token: nvcr.io has several.
            (Sent::Token(_, realm, _), Some(challenge @ Challenge::Bearer(_)))
                if challenge != Challenge::Bearer(realm.clone()) =>
            {
                self.meet(&challenge, None).await?;
            }
            (Sent::Token(token, realm, _), _) => {
                // A token that this call fetched is not too old, unless it has expired since.
                let old = token.fetched < self.began || token.is_over();
                if old && (unauthorized || refusal.says_expired()) {
                    self.began = Instant::now();
                    self.meet(&Challenge::Bearer(realm), Some(&token)).await?;
                } else if *self.scope == Scope::Catalog && self.pair().is_some() && !self.basic_refused {
                    // Harbor's catalog accepts only Basic, from an administrator, whatever its challenge says (harbor#13573).
                    self.meet(&Challenge::Basic, None).await?;
                } else {
                    return self.rotate().await;
                }
            }
            (Sent::Basic(_), Some(challenge @ Challenge::Bearer(_)))
                // For the catalog, Basic was sent either because a token was refused, or because it worked for an earlier
                // page. Only in the second case, a token is something new to send.
                if *self.scope != Scope::Catalog || self.changes == 1 =>
            {
                self.meet(&challenge, None).await?;
            }
            (Sent::Basic(_) | Sent::Static(_), _) => return self.rotate().await,
            (Sent::Nothing, None) => return Ok(false),
        }
        Ok(true)
    }

    /// The challenge of a 401: its own, else the cached one, else the one of `/v2/`. Google's registries send no
    /// challenge with the 401.
    async fn challenge_of(&self, refusal: &ErrorResponse) -> Result<Option<Challenge>, RexError> {
        if let Some(challenge) = Challenge::preferred(refusal.headers()) {
            self.store(challenge.clone());
            return Ok(Some(challenge));
        }
        match self.auth.challenges().challenge(self.scope) {
            Some(challenge) => Ok(Some(challenge)),
            None => self.auth.ask_for_challenge(self.call).await,
        }
    }

    /// Prepares the credentials that a challenge requires. `refused` is a token that the registry no longer accepts.
    async fn meet(&mut self, challenge: &Challenge, refused: Option<&Token>) -> Result<(), RexError> {
        self.sent = match challenge {
            Challenge::Basic => {
                let Some((username, password)) = self.pair() else {
                    let problem =
                        "the registry requires a user name and a password, and none are configured for it";
                    return Err(self.unauthenticated(problem));
                };
                Sent::Basic(basic(username, password))
            }
            Challenge::Bearer(realm) => {
                let token = match self.token(realm, refused).await {
                    // A credential that the token service refuses may just have been rotated.
                    Err(error @ RexError::Authentication { .. }) if !self.rotated => {
                        self.rotated = true;
                        if !self.take_replacement().await {
                            return Err(error);
                        }
                        self.token(realm, None).await?
                    }
                    token => token?,
                };
                let value = self.bearer(&token.secret)?;
                Sent::Token(token, realm.clone(), value)
            }
        };
        Ok(())
    }

    /// Reads the refused credential's file again, and sends the new credential if it has changed.
    async fn rotate(&mut self) -> Result<bool, RexError> {
        if std::mem::replace(&mut self.rotated, true) || !self.take_replacement().await {
            return Ok(false);
        }
        if let Some(Secret::Bearer(token)) = self.credential.as_ref().map(Credential::secret) {
            self.sent = Sent::Static(self.bearer(token)?);
        } else if let Some(challenge) = self.auth.challenges().challenge(self.scope) {
            self.meet(&challenge, None).await?;
        }
        Ok(true)
    }

    async fn take_replacement(&mut self) -> bool {
        let Some(refused) = self.credential.as_ref().map(Credential::id) else {
            return false;
        };
        let replacement = self.auth.credentials().replaced(self.scope.repository(), refused).await;
        let found = replacement.is_some();
        // What the registry refused was the old credential.
        self.basic_refused &= !found;
        self.credential = replacement.or(self.credential.take());
        found
    }

    async fn token(&self, realm: &Realm, refused: Option<&Token>) -> Result<Token, RexError> {
        self.auth.token(realm, self.scope, self.credential.as_ref(), refused, self.call).await
    }

    fn pair(&self) -> Option<(&str, &SecretString)> {
        self.credential.as_ref().and_then(Credential::pair)
    }

    fn bearer(&self, token: &SecretString) -> Result<HeaderValue, RexError> {
        let text = SecretString::from(format!("Bearer {}", token.expose_secret()));
        let mut value = HeaderValue::from_str(text.expose_secret()).map_err(|_| RexError::Validation {
            at: self.auth.transport().at(self.scope.repository()),
            problem: "the token holds characters that a header cannot carry".to_owned(),
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn unauthenticated(&self, problem: &str) -> RexError {
        let mut at = self.auth.transport().at(self.scope.repository());
        at.http_status = Some(401);
        RexError::Authentication { at, refusal: Refusal::Unauthenticated, problem: problem.to_owned() }
    }
}
