//! What is kept and shared within one replica: what it costs the registry, how old it may be, and who gets it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod coalescing;
mod freshness;
mod hour;
mod model;
mod registry;
#[path = "../support/mod.rs"]
mod support;

use std::{collections::HashMap, time::Duration};

use rexd::{
    grpc::proto::{GetManifestRequest, GetManifestResponse, registry_service_client::RegistryServiceClient},
    reads,
};
use tonic::{Request, Status, transport::Channel};

use self::{
    registry::{Registry, number_of},
    support::service::{Options, Service, settings},
};

const REGISTRY: &str = "registry.test:5000";
const REPOSITORY: &str = "org/app";

/// The defaults of the configuration, with room for everything that a test keeps.
fn defaults() -> reads::Settings {
    reads::Settings {
        memory_bytes: 64 << 20,
        access_check: Duration::from_secs(300),
        ..reads::Settings::default()
    }
}

/// The service in front of a registry.
async fn service(registry: &Registry, reads: reads::Settings) -> Service {
    let mut options = Options { reads, ..Options::default() };
    // Hours pass in these tests, and a call that meets the end of its connection is not what they test.
    options.server.max_connection_age = Duration::from_secs(7 * 24 * 60 * 60);
    Service::start(vec![settings(REGISTRY, registry.address())], options).await
}

/// `stale_if_error` of the registry of these tests.
fn stale_if_error(age: Duration) -> HashMap<rexd::oci::Registry, Duration> {
    HashMap::from([(REGISTRY.parse().unwrap(), age)])
}

/// A manifest, where it came from, and its age in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Got {
    /// The number in the manifest, see [`number_of`].
    number: u64,
    digest: String,
    source: String,
    age: u64,
}

/// Reads a manifest.
async fn manifest(
    client: &RegistryServiceClient<Channel>,
    reference: &str,
    max_age: Option<Duration>,
) -> Result<Got, Status> {
    let request = Request::new(GetManifestRequest {
        registry: REGISTRY.to_owned(),
        repository: REPOSITORY.to_owned(),
        reference: reference.to_owned(),
        max_age: max_age.map(|age| prost_types::Duration {
            seconds: i64::try_from(age.as_secs()).unwrap(),
            nanos: i32::try_from(age.subsec_nanos()).unwrap(),
        }),
        ..GetManifestRequest::default()
    });
    let response = client.clone().get_manifest(request).await?;
    let text = |key: &str| response.metadata().get(key).unwrap().to_str().unwrap().to_owned();
    let (source, age) = (text("rexd-cache"), text("rexd-age").parse().unwrap());
    let GetManifestResponse { content, content_descriptor, .. } = response.into_inner();
    let digest = content_descriptor.unwrap().digest;
    assert_eq!(registry::digest_of(&content), digest, "the content is what the digest says");
    Ok(Got { number: number_of(&content), digest, source, age })
}

/// Moves tokio's clock, which the service measures ages with. Nothing may be in progress.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// A sequence that a seed determines (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
