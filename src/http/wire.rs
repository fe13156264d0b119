//! Sends one request and receives the head of its response.

use std::time::Duration;

use http::{HeaderValue, Method, header};
use secrecy::ExposeSecret as _;
use tokio::time::Instant;
use tracing::Instrument as _;
use url::Url;

use super::{
    call::CallContext,
    connect::Clients,
    egress::Trust,
    failure, rate_limit,
    request::{Protocol, TokenRequest},
    response::{Limits, Response},
    settings::{Settings, SetupError},
};
use crate::{
    error::{At, RexError, Wait},
    metrics,
    oci::Registry,
};

/// The connections of one registry.
#[derive(Debug)]
pub(super) struct Wire {
    clients: Clients,
    header_timeout: Duration,
    limits: Limits,
}

impl Wire {
    pub(super) fn new(registry: &Registry, settings: &Settings) -> Result<Self, SetupError> {
        Ok(Self {
            clients: Clients::new(registry, settings)?,
            header_timeout: settings.header_timeout,
            limits: Limits {
                connect: settings.connect_timeout,
                idle: settings.idle_timeout,
                whole: settings.body_timeout,
                error_bytes: settings.auth_body_bytes,
            },
        })
    }

    /// Sends a request of a call over a connection for origins of this `trust`.
    pub(super) async fn exchange(
        &self,
        trust: Trust,
        protocol: Protocol,
        request: reqwest::Request,
        call: &CallContext,
        at: &At,
    ) -> Result<Response, RexError> {
        call.count_request(at)?;
        let span = tracing::info_span!(
            "upstream",
            otel.kind = "client",
            http.request.method = %request.method(),
            url = %loggable(request.url()),
            http.response.status_code = tracing::field::Empty,
        );
        let measured = metrics::Exchange::begin(&at.registry, request.method());
        let began = Instant::now();
        let limit = self.header_timeout;
        let sending = self.clients.get(trust, protocol).execute(request);
        let response = tokio::time::timeout(limit, sending)
            .instrument(span.clone())
            .await
            .map_err(|_| RexError::Timeout { at: at.clone(), wait: Wait::Headers, limit })
            .and_then(|sent| {
                sent.map_err(|error| failure::of(error, at.clone(), self.limits.connect, self.limits.idle))
            });
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                measured.failed(failure::kind(&error));
                tracing::debug!(parent: &span, registry = at.registry, %error, "a request has no response");
                return Err(error);
            }
        };
        measured.responded(response.status());
        let status = response.status().as_u16();
        span.record("http.response.status_code", status);
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(parent: &span, registry = at.registry, status, milliseconds, "a registry responded");
        rate_limit::note(&at.registry, response.headers());
        Ok(Response::new(response, at.clone(), began.elapsed(), self.limits, call.memory().clone()))
    }

    /// Sends a request to a token service.
    pub(super) async fn exchange_token(
        &self,
        trust: Trust,
        request: &TokenRequest<'_>,
    ) -> Result<Response, RexError> {
        let method = if request.form.is_some() { Method::POST } else { Method::GET };
        let mut sent = reqwest::Request::new(method, request.url.clone());
        sent.headers_mut().clone_from(&request.headers);
        if let Some(form) = &request.form {
            let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            sent.headers_mut().insert(header::CONTENT_TYPE, form_type);
            *sent.body_mut() = Some(form.expose_secret().to_owned().into());
        }
        self.exchange(trust, Protocol::Any, sent, request.call, &request.at).await
    }
}

/// The URL without its query, where presigned URLs carry secrets.
fn loggable(url: &Url) -> Url {
    let mut bare = url.clone();
    bare.set_query(None);
    bare
}
