//! Callers that share one registry: what one of them does at its own pace, or a thousand times, does not keep the others from
//! the registry.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod blobs;
mod fairness;
mod fleet;
mod gated;
#[path = "../support/mod.rs"]
mod support;
mod unlisted;

use std::time::Duration;

use rexd::grpc::proto::{ListTagsRequest, registry_service_client::RegistryServiceClient};
use support::status::Failure;
use tonic::{Code, Request, Status, transport::Channel};

const REGISTRY: &str = "registry.test:5000";

/// Longer than anything here may take. A test that waits in vain fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lists the tags of a repository as the caller with this token, if there is one, within `timeout`.
async fn list_tags(
    client: &RegistryServiceClient<Channel>,
    token: &str,
    repository: &str,
    timeout: Duration,
) -> Result<(), Status> {
    let mut request = Request::new(ListTagsRequest {
        registry: REGISTRY.to_owned(),
        repository: repository.to_owned(),
        ..ListTagsRequest::default()
    });
    request.set_timeout(timeout);
    if !token.is_empty() {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    client.clone().list_tags(request).await.map(drop)
}

/// The status names the limit that was reached and has a retry delay.
fn assert_overloaded(status: Status, bound: &str) {
    let failure = Failure::expect(status, Code::Unavailable, "OVERLOADED", bound);
    assert!(failure.retry_ms().is_some_and(|ms| ms > 0), "{:?}", failure.details);
    assert!(failure.status.message().contains(bound), "{:?}", failure.status);
}
