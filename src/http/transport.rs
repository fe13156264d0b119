//! Requests to one registry: guarded, bounded, paced and retried. Knows nothing of signing in.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, header};
use url::Url;

use super::{
    call::CallContext,
    egress::{Guard, Origin, Trust},
    fleet::BudgetedRequest,
    large_work::LargeWork,
    pace::Pace,
    permits::{Permit, Permits},
    redirect,
    request::{Bound, Request, TokenRequest},
    response::Response,
    retry,
    settings::{Settings, SetupError},
    wire::Wire,
};
use crate::{
    error::{At, RexError},
    oci::{Registry, Repository},
};

/// When a call may try again that got no permit.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How requests reach one registry.
#[derive(Debug)]
pub(crate) struct Transport {
    registry: Registry,
    url: Url,
    settings: Settings,
    guard: Guard,
    wire: Wire,
    pace: Pace,
    requests: Permits,
    blobs: Permits,
    large_work: LargeWork,
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
            pace: pace(registry, &settings),
            requests: Permits::new(settings.max_concurrent_requests),
            blobs: Permits::new(settings.max_concurrent_blobs),
            large_work: LargeWork::new(registry.to_string()),
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
        request: &Request<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RexError> {
        let mut own_headers = self.settings.headers.clone();
        if let Some(value) = authorization {
            own_headers.insert(header::AUTHORIZATION, value.clone());
        }
        let exchange = || async {
            let permit = self.permit(request).await?;
            let response = redirect::follow(&self.wire, &self.guard, request, &own_headers).await?;
            Ok(response.with_permit(permit))
        };
        let deadline = || if request.shared { None } else { request.call.deadline() };
        retry::with_retries(&self.pace, &request.at, deadline, exchange).await
    }

    /// Waits while the registry has asked for a pause. It is an error, at once, when the pause outlasts the deadline.
    pub(crate) async fn wait_for_pause(&self, at: &At, call: &CallContext) -> Result<(), RexError> {
        self.pace.wait(at, call.deadline()).await
    }

    /// The error of a call whose time ends while the registry has asked for a pause.
    pub(crate) fn pause(&self, at: &At) -> Option<RexError> {
        self.pace.refusal(at)
    }

    /// Runs work on a body of this size that the registry sent. If the body is large, the work runs off the runtime's threads,
    /// one piece of work at a time.
    pub(crate) async fn work_on_body<T: Send + 'static>(
        &self,
        bytes: usize,
        call: &CallContext,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RexError> {
        self.large_work.run(bytes, call, self.settings.header_timeout, work).await
    }

    /// Checks that the service may send requests to a token service at `url`, and credentials if the request has some. The
    /// error names the rule that refuses it.
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
        mut request: TokenRequest<'_>,
    ) -> Result<Response, RexError> {
        if self.guard.is_registry(&request.url) {
            // A gateway in front of the registry requires its headers on token requests too.
            request.headers.extend(self.settings.headers.clone());
        }
        let exchange = || self.wire.exchange_token(trust, &request);
        retry::with_retries(pace, &request.at, || None, exchange).await
    }

    /// The most bytes of a token response.
    pub(crate) fn auth_body_bytes(&self) -> usize {
        self.settings.auth_body_bytes
    }

    /// Waits for a permit of the request's bound and for the budget of the fleet, each as long as the call's deadline allows,
    /// at most `header_timeout`.
    async fn permit(&self, request: &Request<'_>) -> Result<Option<Permit>, RexError> {
        let mut permit = self.own_permit(request).await?;
        let Some(budget) = self.settings.fleet.as_ref().and_then(|fleet| fleet.budget.as_ref()) else {
            return Ok(permit);
        };
        let counts = match request.bound {
            Bound::Requests => BudgetedRequest::Concurrent,
            Bound::Blobs | Bound::None => BudgetedRequest::RateOnly,
        };
        let refusal = RexError::Overloaded {
            problem: format!("the fleet's budget of requests to {} is used up (fleet)", self.registry),
            retry_after: RETRY_AFTER,
        };
        let admitted = request.call.within_or(self.settings.header_timeout, refusal, budget.admit(counts));
        let admitted = admitted.await.inspect_err(|_| {
            tracing::debug!(registry = %self.registry, "the fleet's budget had no room in time");
        })?;
        if let Some(permit) = &mut permit {
            permit.set_fleet(admitted);
        }
        Ok(permit)
    }

    /// Waits for a permit of this replica.
    async fn own_permit(&self, request: &Request<'_>) -> Result<Option<Permit>, RexError> {
        let (permits, key, count) = match request.bound {
            Bound::Requests => {
                (&self.requests, "max_concurrent_requests", self.settings.max_concurrent_requests)
            }
            Bound::Blobs => (&self.blobs, "max_concurrent_blobs", self.settings.max_concurrent_blobs),
            Bound::None => return Ok(None),
        };
        if let Some(permit) = permits.try_acquire() {
            return Ok(Some(permit));
        }
        let refusal = RexError::Overloaded {
            problem: format!("{count} requests to {} are in flight ({key})", self.registry),
            retry_after: RETRY_AFTER,
        };
        let permit = request.call.acquire(permits, self.settings.header_timeout, refusal).await;
        permit.map(Some).inspect_err(|_| {
            tracing::debug!(registry = %self.registry, bound = key, "no permit became free in time");
        })
    }
}

/// The pace of a registry; its pauses are shared in a fleet.
fn pace(registry: &Registry, settings: &Settings) -> Pace {
    match &settings.fleet {
        Some(fleet) => Pace::new().with_shared_pauses(registry.to_string(), Arc::clone(&fleet.pauses)),
        None => Pace::new(),
    }
}
