//! `StreamBlob`, from the caller's side: order and bytes of what arrives, ranges, and how a stream ends when the registry
//! or the caller disconnects. A blob comes from the sample registry through the fault proxy, or from a scripted registry
//! for responses that the sample registry never sends.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod contradictions;
mod corruption;
mod cuts;
mod ending;
mod incomplete_responses;
mod limits;
mod order;
mod random_responses;
mod ranges;
mod received;
mod redirects;
mod resumes;
mod sizes;
#[path = "../support/mod.rs"]
mod support;
mod unusual_responses;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use received::Received;
use rexd::{
    demo::{APP, DemoRegistry, Sample},
    grpc::proto::{StreamBlobRequest, registry_service_client::RegistryServiceClient},
};
use support::{
    fault::{Fault, FaultProxy, When},
    scripted::ScriptedRegistry,
    service::{Options, Service, settings},
};
use tonic::{Status, transport::Channel};

/// Longer than anything here may take. A test that waits in vain fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(30);

const REGISTRY: &str = "registry.test:5000";

/// The sample registry behind a fault proxy, and the service in front of both.
struct Setting {
    proxy: FaultProxy,
    client: RegistryServiceClient<Channel>,
    service: Service,
    _registry: DemoRegistry,
}

impl Setting {
    async fn new() -> Self {
        Self::serving(support::sample(), Options::default()).await
    }

    async fn limited_to(max_streams: usize) -> Self {
        let mut options = Options::default();
        options.streams.max_streams = max_streams;
        Self::serving(support::sample(), options).await
    }

    async fn serving(sample: Arc<Sample>, options: Options) -> Self {
        let registry = DemoRegistry::start(support::listen().await, sample).unwrap();
        let proxy = FaultProxy::start(registry.address());
        let service = Service::start(vec![settings(REGISTRY, proxy.address())], options).await;
        let client = service.client().await;
        Self { proxy, client, service, _registry: registry }
    }

    /// A setting with each fault applied to the `n`-th request for a blob.
    async fn with(faults: impl IntoIterator<Item = (usize, Fault)>) -> Self {
        let setting = Self::new().await;
        for (n, fault) in faults {
            setting.proxy.inject(When::nth(n, "/blobs/"), fault);
        }
        setting
    }

    async fn read(&mut self, request: StreamBlobRequest) -> Result<Received, Status> {
        Received::read(&mut self.client, request).await
    }

    /// The values of `Range` that the registry saw, in order; empty where there was none.
    fn ranges(&self) -> Vec<String> {
        let requests = self.proxy.connection_log().requests();
        let range = |request: &support::wire::Request| request.header("range").unwrap_or_default().to_owned();
        requests.iter().map(range).collect()
    }
}

/// A scripted registry behind the service, for one blob of `org/app`.
struct Scripted {
    registry: ScriptedRegistry,
    client: RegistryServiceClient<Channel>,
    _service: Service,
}

impl Scripted {
    async fn new() -> Self {
        let registry = ScriptedRegistry::start().await;
        let service = Service::start(vec![settings(REGISTRY, registry.address())], Options::default()).await;
        let client = service.client().await;
        Self { registry, client, _service: service }
    }

    async fn read(&mut self, digest: &str, offset: usize, limit: usize) -> Result<Received, Status> {
        let request = StreamBlobRequest {
            repository: "org/app".to_owned(),
            offset: offset as i64,
            limit: limit as i64,
            ..of(digest)
        };
        Received::read(&mut self.client, request).await
    }
}

/// The whole blob with this digest, of the sample's [`APP`].
fn of(digest: &str) -> StreamBlobRequest {
    StreamBlobRequest {
        registry: REGISTRY.to_owned(),
        repository: APP.to_owned(),
        digest: digest.to_owned(),
        ..StreamBlobRequest::default()
    }
}

/// The large layer of the sample, a little more than 8 MiB: a request for all of it, and its bytes.
fn large_blob() -> (StreamBlobRequest, Bytes) {
    let sample = support::sample();
    let blobs = sample.repository(APP).unwrap().blobs();
    let (digest, blob) = blobs.max_by_key(|(_, blob)| blob.len()).unwrap();
    (of(digest.as_ref()), blob.clone())
}

/// The smallest blob of the sample's [`APP`]; some hundred bytes.
fn small_blob() -> (StreamBlobRequest, Bytes) {
    let sample = support::sample();
    let blobs = sample.repository(APP).unwrap().blobs();
    let (digest, blob) = blobs.min_by_key(|(_, blob)| blob.len()).unwrap();
    (of(digest.as_ref()), blob.clone())
}

/// Bytes without a pattern, so that a lost or repeated piece is noticed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..length).map(next).collect()
}

fn digest<D: sha2::Digest>(algorithm: &str, content: &[u8]) -> String {
    let hex: String = D::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{algorithm}:{hex}")
}
