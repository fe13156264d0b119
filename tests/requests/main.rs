//! Invalid requests, field by field. Each is refused with INVALID_ARGUMENT that names the field, or with PERMISSION_DENIED
//! where the target is not allowed, and none reaches a registry.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod fields;
mod names;
mod pages;
#[path = "../support/mod.rs"]
mod support;
mod targets;

use rexd::grpc::proto::registry_service_client::RegistryServiceClient;
use support::{
    call::Call,
    scripted::ScriptedRegistry,
    service::{Options, Service, settings},
    status::Failure,
};
use tonic::{Code, transport::Channel};

/// The one registry that the service is configured for.
const REGISTRY: &str = "registry.test:5000";

/// A service, a client of it, and a registry that expects nothing.
struct Setting {
    registry: ScriptedRegistry,
    client: RegistryServiceClient<Channel>,
    _service: Service,
}

impl Setting {
    async fn new(allow_unlisted: bool) -> Self {
        let registry = ScriptedRegistry::start().await;
        let options = Options { allow_unlisted, ..Options::default() };
        let service = Service::start(vec![settings(REGISTRY, registry.address())], options).await;
        let client = service.client().await;
        Self { registry, client, _service: service }
    }

    /// Makes calls that must fail in this way, before anything is sent.
    async fn refuses(
        &mut self,
        calls: impl IntoIterator<Item = Call>,
        code: Code,
        reason: &str,
    ) -> Vec<Failure> {
        let mut failures = Vec::new();
        for call in calls {
            let failure = call.failure(&mut self.client).await;
            let found = (failure.status.code(), failure.reason.as_str());
            assert_eq!(found, (code, reason), "{call:?}: {:?}", failure.status);
            failures.push(failure);
        }
        assert!(self.registry.requests().is_empty(), "{:?}", self.registry.requests());
        failures
    }

    /// Makes calls that are refused with INVALID_ARGUMENT because of this field.
    async fn refuses_field(&mut self, field: &str, calls: impl IntoIterator<Item = Call>) {
        for failure in self.refuses(calls, Code::InvalidArgument, "INVALID_ARGUMENT").await {
            assert_eq!(failure.fields(), [field], "{:?}", failure.status);
            assert!(failure.status.message().starts_with(field), "{:?}", failure.status);
            let echoes_control = failure.status.message().chars().any(char::is_control);
            assert!(!echoes_control, "{:?}", failure.status);
        }
    }
}
