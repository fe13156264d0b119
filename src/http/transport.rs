//! Requests to one registry: guarded, bounded, paced and retried. Knows nothing of signing in.

use std::sync::Arc;

use http::{HeaderValue, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use url::Url;

use super::{
    egress::{Guard, Origin, Trust},
    pace::Pace,
    redirect,
    request::{Request, TokenRequest},
    response::Response,
    retry,
    settings::{Settings, SetupError},
    wire::Wire,
};
use crate::{
    error::{At, RexError},
    oci::{Registry, Repository},
};

/// How requests reach one registry.
#[derive(Debug)]
pub(crate) struct Transport {
    registry: Registry,
    url: Url,
    settings: Settings,
    guard: Guard,
    wire: Wire,
    pace: Pace,
    requests: Arc<Semaphore>,
}

impl Transport {
    /// Reads every file that the settings name. A file that cannot be used is an error that names it.
    pub(crate) fn new(registry: &Registry, url: &Url, settings: Settings) -> Result<Self, SetupError> {
        let origin = Origin::of(url).ok_or_else(|| SetupError {
            registry: registry.to_string(),
            problem: "url: neither http nor https".to_owned(),
        })?;
        let realms = settings.token_realms.clone();
        Ok(Self {
            registry: registry.clone(),
            url: url.clone(),
            guard: Guard::new(origin, settings.listed, realms, settings.trusted_origins.clone()),
            wire: Wire::new(registry, &settings)?,
            pace: Pace::new(),
            requests: Arc::new(Semaphore::new(settings.max_concurrent_requests)),
            settings,
        })
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// `<url>/v2/`, the root of the API (OCI Distribution Specification, end-1).
    pub(crate) fn base(&self) -> Url {
        let mut base = self.url.clone();
        if let Ok(mut path) = base.path_segments_mut() {
            path.pop_if_empty().push("v2").push("");
        }
        base
    }

    /// Registry and repository, for errors.
    pub(crate) fn at(&self, repository: Option<&Repository>) -> At {
        At {
            registry: self.registry.to_string(),
            repository: repository.map(Repository::to_string),
            ..At::default()
        }
    }

    /// Sends a request, follows its redirects, and tries again where that may help. `authorization` goes to the
    /// registry's own origin only. The response may have any status.
    pub(crate) async fn send(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RexError> {
        let mut own_headers = self.settings.headers.clone();
        if let Some(value) = authorization {
            own_headers.insert(header::AUTHORIZATION, value.clone());
        }
        let exchange = || async {
            let permit = self.permit().await?;
            let response = redirect::follow(&self.wire, &self.guard, request, &own_headers).await?;
            Ok(response.with_permit(permit))
        };
        retry::with_retries(&self.pace, &request.at, request.deadline, exchange).await
    }

    /// Waits while the registry has asked for a pause. It is an error, at once, when the pause outlasts the deadline.
    pub(crate) async fn wait_for_pause(&self, at: &At, deadline: Option<Instant>) -> Result<(), RexError> {
        self.pace.wait(at, deadline).await
    }

    /// Checks that a token service at `url` may be asked, and may receive credentials if the request has some. The error
    /// says which rule refuses it.
    pub(crate) fn admit_token_service(&self, url: &Url, with_credentials: bool) -> Result<Trust, String> {
        let trust = self.guard.admit(url).map_err(|problem| format!("token realm: {problem}"))?;
        if with_credentials && !self.guard.may_receive_credentials(url) {
            let host = url.host_str().unwrap_or_default();
            return Err(format!(
                "the registry names {host} as its token service, which may not receive credentials; if this is \
                 intended, add its origin to the registry's token_realms"
            ));
        }
        Ok(trust)
    }

    /// Sends a request to a token service that [`admit_token_service`](Self::admit_token_service) has admitted. Follows
    /// no redirect. The pace is the token service's own: a token service that limits its rate does not pause the registry.
    pub(crate) async fn send_token_request(
        &self,
        trust: Trust,
        pace: &Pace,
        mut request: TokenRequest,
    ) -> Result<Response, RexError> {
        if self.guard.is_registry(&request.url) {
            // A gateway in front of the registry wants its headers on token requests too.
            request.headers.extend(self.settings.headers.clone());
        }
        let exchange = || self.wire.exchange_token(trust, &request);
        retry::with_retries(pace, &request.at, None, exchange).await
    }

    /// The most bytes of a token response.
    pub(crate) fn auth_body_bytes(&self) -> usize {
        self.settings.auth_body_bytes
    }

    /// Waits for one of `max_concurrent_requests`.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, RexError> {
        let overloaded = || RexError::Overloaded {
            problem: format!("max_concurrent_requests to {} are in flight", self.registry),
            retry_after: std::time::Duration::from_secs(1),
        };
        let permit = Arc::clone(&self.requests).acquire_owned();
        let permit = tokio::time::timeout(self.settings.header_timeout, permit).await;
        permit.map_err(|_| overloaded())?.map_err(|_| overloaded())
    }
}
