//! Ping: OCI Distribution Specification, end-1.

use std::time::Duration;

use http::HeaderMap;

use super::{
    Client, endpoint,
    exchange::{get, is_html},
};
use crate::{
    auth::{AuthScheme, Scope},
    error::{Missing, RexError},
    http::{CallContext, ErrorResponse},
    oci::Registry,
};

/// The result of `GET /v2/`.
#[derive(Debug, Clone)]
pub struct PingResponse {
    /// The value of `Docker-Distribution-API-Version`. Empty if the registry sends none.
    pub api_version: String,
    /// The scheme that the registry requires.
    pub scheme: AuthScheme,
    /// Whether the registry accepted a sign-in. A registry that requires tokens counts as available even without one: a
    /// service without a credential for the whole registry cannot check more.
    pub signed_in: bool,
    /// The time from the request to the response.
    pub latency: Duration,
}

impl Client {
    /// Checks that a registry responds and accepts the sign-in (end-1).
    pub async fn ping(&self, registry: &Registry, call: &CallContext) -> Result<PingResponse, RexError> {
        let upstream = self.upstream(registry).await?;
        let request = get(upstream.base(), HeaderMap::new(), upstream.at(None), call);
        let (response, scheme) = upstream.send_with_scheme(&request, &Scope::Ping).await?;
        if response.status().as_u16() == 404 {
            // A server without end-1 does not implement the API.
            let problem = "/v2/ does not exist: this is not a registry's API".to_owned();
            return Err(RexError::Unsupported { at: response.at(), problem });
        }
        let signed_out = response.status().as_u16() == 401;
        if !response.status().is_success() && !signed_out {
            return Err(ErrorResponse::read(response).await.into_error(Missing::Repository, "/v2/"));
        }
        if is_html(&response) {
            return Err(response.invalid("/v2/ responds with text/html: this is not a registry's API"));
        }
        let api_version =
            response.header(endpoint::API_VERSION).unwrap_or_default().chars().take(64).collect();
        let signed_in = !signed_out && scheme != AuthScheme::None;
        Ok(PingResponse { api_version, scheme, signed_in, latency: response.elapsed() })
    }
}
