//! Who may call, what each caller may read, and how much: tokens, certificates, grants and limits, with callers at the real
//! listener and a registry that keeps every request it sees.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod certificates;
#[path = "../sharing/gated.rs"]
mod gated;
mod grants;
mod headers;
mod limits;
#[path = "../support/mod.rs"]
mod support;
mod tokens;

use std::time::Duration;

use rexd::{
    callers::{Callers, Identity},
    grpc::proto::registry_service_client::RegistryServiceClient,
    policy::Caller,
};
use support::{
    call::Call,
    scripted::{Reply, ScriptedRegistry},
    service::{Options, Service, settings},
    status::Failure,
};
use tonic::{Code, transport::Channel};

/// The registry that the service is configured for.
const REGISTRY: &str = "registry.test:5000";

/// Longer than anything here may take; a fact that does not come true fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// A caller that may read this, and how it is known.
fn caller(name: &str, allow: &[&str], identity: Identity) -> (Caller, Identity) {
    (Caller::new(name, allow.iter().map(|grant| grant.parse().unwrap()).collect()), identity)
}

/// The service for some callers, in front of a registry that has the content of most requests.
struct Setting {
    registry: ScriptedRegistry,
    service: Service,
}

impl Setting {
    async fn new(callers: impl IntoIterator<Item = (Caller, Identity)>) -> Self {
        Self::with(callers, Options::default()).await
    }

    async fn with(callers: impl IntoIterator<Item = (Caller, Identity)>, options: Options) -> Self {
        let registry = ScriptedRegistry::start().await;
        registry.otherwise(|request| {
            let path = request.target.split('?').next().unwrap();
            Some(match path {
                "/v2/" => Reply::status(200),
                path if path.ends_with("/tags/list") => Reply::json(&serde_json::json!({ "tags": ["v1"] })),
                path if path.ends_with("/_catalog") => {
                    Reply::json(&serde_json::json!({ "repositories": [] }))
                }
                path if path.contains("/blobs/") => Reply::status(200),
                _ => Reply::status(404),
            })
        });
        let options = Options { callers: Callers::known(callers).unwrap(), ..options };
        let service = Service::start(vec![settings(REGISTRY, registry.address())], options).await;
        Self { registry, service }
    }

    async fn client(&self) -> RegistryServiceClient<Channel> {
        self.service.client().await
    }

    /// Makes a call that reaches the registry.
    async fn serves(&self, call: &Call, authorization: &str) {
        let before = self.registry.requests().len();
        let outcome = call.outcome_as(&mut self.client().await, authorization).await;
        // The registry has no manifest; the test is only about whether it gets the request.
        let reached = match &outcome {
            Ok(()) => true,
            Err(status) => status.code() == Code::NotFound,
        };
        assert!(reached, "{call:?}: {outcome:?}");
        assert!(self.registry.requests().len() > before, "{call:?}: the registry got no request");
    }

    /// Makes a call that is refused in this way before the registry gets a request.
    async fn refuses(&self, call: &Call, authorization: &str, code: Code, reason: &str) -> Failure {
        let before = self.registry.requests().len();
        let status = call.outcome_as(&mut self.client().await, authorization).await.unwrap_err();
        assert_eq!(self.registry.requests().len(), before, "{call:?}: the registry got a request");
        Failure::expect(status, code, reason, &format!("{call:?} as {authorization:?}"))
    }

    /// Makes a call that is refused because its caller is unknown.
    async fn refuses_unknown(&self, call: &Call, authorization: &str) -> Failure {
        self.refuses(call, authorization, Code::Unauthenticated, "CALLER_UNKNOWN").await
    }

    /// Makes a call that is refused because no grant of its caller covers it.
    async fn denies(&self, call: &Call, authorization: &str) -> Failure {
        self.refuses(call, authorization, Code::PermissionDenied, "CALLER_NOT_ALLOWED").await
    }
}
