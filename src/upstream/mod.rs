//! One registry: sign in, send, and sign in again when the registry refuses.
//!
//! `Upstream::send` is the whole loop. `auth` decides what to send as `Authorization`. `http` sends each request and receives
//! its response.

mod settings;

use std::sync::Arc;

use url::Url;

use crate::{
    auth::{AuthScheme, Authenticator, Challenge, CredentialId, Scope, SignIn},
    error::{At, Missing, RexError},
    http::{CallContext, ErrorResponse, Request, Response, SetupError, Transport},
    oci::{Registry, Repository},
};

pub use settings::Settings;

/// Docker Hub's token service, which is at another host than its API.
const DOCKER_HUB_REALM: &str = "https://auth.docker.io";

/// One registry: how requests reach it, and how they are signed in.
#[derive(Debug)]
pub(crate) struct Upstream {
    transport: Arc<Transport>,
    auth: Authenticator,
    page_parameters: Vec<String>,
}

impl Upstream {
    /// Reads every file that the settings name. A file that cannot be used is an error that names it.
    pub(crate) fn new(settings: Settings) -> Result<Self, SetupError> {
        let Settings { registry, url, mut http, credentials, page_parameters } = settings;
        if registry.is_docker_hub() {
            http.token_realms.extend(DOCKER_HUB_REALM.parse());
        }
        let transport = Arc::new(Transport::new(&registry, &url, http)?);
        let auth = Authenticator::new(Arc::clone(&transport), &credentials)
            .map_err(|problem| SetupError { registry: registry.to_string(), problem })?;
        Ok(Self { transport, auth, page_parameters })
    }

    pub(crate) fn registry(&self) -> &Registry {
        self.transport.registry()
    }

    /// `<url>/v2/`, the root of the API (OCI Distribution Specification, end-1).
    pub(crate) fn base(&self) -> Url {
        self.transport.base()
    }

    /// Parameters that the configuration allows in this registry's links to the next page.
    pub(crate) fn page_parameters(&self) -> &[String] {
        &self.page_parameters
    }

    /// Registry and repository, for errors.
    pub(crate) fn at(&self, repository: Option<&Repository>) -> At {
        self.transport.at(repository)
    }

    /// The identity of the credential for a repository, or for the registry as a whole.
    pub(crate) async fn credential(&self, repository: Option<&Repository>) -> Option<CredentialId> {
        self.auth.credential(repository).await
    }

    /// The error of a call whose time ends while the registry has asked for a pause.
    pub(crate) fn pause(&self, repository: Option<&Repository>) -> Option<RexError> {
        self.transport.pause(&self.at(repository))
    }

    /// Runs work on a body of this size that the registry sent: see [`Transport::work_on_body`].
    pub(crate) async fn work_on_body<T: Send + 'static>(
        &self,
        bytes: usize,
        call: &CallContext,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RexError> {
        self.transport.work_on_body(bytes, call, work).await
    }

    /// Sends a request, signed in. A 401 or 403 that remains after signing in, and a 429 or 5xx that remains after
    /// retries, are errors. The operation handles every other status.
    pub(crate) async fn send(&self, request: &Request<'_>, scope: &Scope) -> Result<Response, RexError> {
        self.send_with_scheme(request, scope).await.map(|(response, _)| response)
    }

    /// Like [`send`](Self::send), and returns the scheme that the registry requires.
    pub(crate) async fn send_with_scheme(
        &self,
        request: &Request<'_>,
        scope: &Scope,
    ) -> Result<(Response, AuthScheme), RexError> {
        // What signing in needs is boxed, because most calls do not sign in and all would hold its state.
        // Signing in sends requests to the same registry, without a deadline, so the pause is checked first.
        self.transport.wait_for_pause(&request.at, request.call).await?;
        let mut sign_in = Box::pin(SignIn::begin(&self.auth, scope, request.call)).await?;
        loop {
            let response = self.transport.send(request, sign_in.authorization()).await?;
            match response.status().as_u16() {
                status @ (401 | 403) => {
                    // A registry that offers tokens is available. Without credentials, ping cannot check more.
                    if status == 401
                        && *scope == Scope::Ping
                        && sign_in.is_anonymous()
                        && let Some(challenge @ Challenge::Bearer(_)) =
                            Challenge::preferred(response.headers())
                    {
                        let scheme = challenge.scheme();
                        sign_in.store(challenge);
                        return Ok((response, scheme));
                    }
                    let refusal = ErrorResponse::read(response).await;
                    if !Box::pin(sign_in.retry_after_refusal(&refusal)).await? {
                        return Err(refusal.into_error(Missing::Repository, ""));
                    }
                }
                429 | 500..=599 => {
                    return Err(ErrorResponse::read(response).await.into_error(Missing::Repository, ""));
                }
                _ => {
                    sign_in.accepted();
                    return Ok((response, sign_in.scheme()));
                }
            }
        }
    }
}
