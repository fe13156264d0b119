//! What replicas share about one registry: a budget and pauses that the test decides about.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use rexd::{
    client::{BudgetedRequest, FleetPermit, FleetSettings, SharedBudget, SharedPauses},
    demo::APP,
    grpc::proto::StreamBlobRequest,
};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    PATIENCE, REGISTRY, assert_overloaded,
    gated::GatedRegistry,
    list_tags,
    support::{
        self,
        service::{Options, Service, settings, with_http},
        status::Failure,
    },
};

/// A budget of some requests in flight, and how each request was counted.
#[derive(Debug)]
struct Budget {
    permits: Arc<Semaphore>,
    requests: Mutex<Vec<BudgetedRequest>>,
}

impl SharedBudget for Budget {
    fn admit(&self, request: BudgetedRequest) -> Pin<Box<dyn Future<Output = FleetPermit> + Send + '_>> {
        self.requests.lock().unwrap().push(request);
        Box::pin(async {
            FleetPermit::new(Box::new(Arc::clone(&self.permits).acquire_owned().await.unwrap()))
        })
    }
}

/// The end of another replica's pause.
#[derive(Debug, Default)]
struct Pauses(Mutex<Option<Instant>>);

impl SharedPauses for Pauses {
    fn announce(&self, _: &str, _: Duration) {}

    fn paused_until(&self, registry: &str) -> Option<Instant> {
        assert_eq!(registry, REGISTRY);
        *self.0.lock().unwrap()
    }
}

struct Fleet {
    budget: Arc<Budget>,
    pauses: Arc<Pauses>,
    service: Service,
}

impl Fleet {
    async fn in_front_of(address: std::net::SocketAddr, permits: usize) -> Self {
        let budget = Budget { permits: Arc::new(Semaphore::new(permits)), requests: Mutex::default() };
        let (budget, pauses) = (Arc::new(budget), Arc::new(Pauses::default()));
        let fleet = FleetSettings {
            pauses: Arc::clone(&pauses) as _,
            budget: Some(Arc::clone(&budget) as Arc<dyn SharedBudget>),
        };
        let settings = with_http(settings(REGISTRY, address), |http| http.fleet = Some(fleet));
        let service = Service::start(vec![settings], Options::default()).await;
        Self { budget, pauses, service }
    }

    fn requests(&self) -> Vec<BudgetedRequest> {
        self.budget.requests.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_request_keeps_its_permit_of_the_fleet_until_its_response_is_read() {
    let registry = GatedRegistry::start().await;
    let fleet = Fleet::in_front_of(registry.address, 1).await;
    let client = fleet.service.client().await;
    let first = {
        let client = client.clone();
        tokio::spawn(async move { list_tags(&client, "", "a", PATIENCE).await })
    };
    registry.requests(1).await;
    // The registry has not completed its response, so there is no permit for another call.
    let refused = list_tags(&client, "", "b", Duration::from_millis(500)).await.unwrap_err();
    assert_overloaded(refused, "fleet");
    assert_eq!(registry.requests(1).await.len(), 1);
    registry.complete(2);
    first.await.unwrap().unwrap();
    list_tags(&client, "", "c", PATIENCE).await.unwrap();
    assert_eq!(fleet.budget.permits.available_permits(), 1);
    assert!(fleet.requests().iter().all(|request| *request == BudgetedRequest::Concurrent));
}

#[tokio::test]
async fn a_request_for_a_blob_counts_by_its_rate_only() {
    let demo = support::demo_registry().await;
    let fleet = Fleet::in_front_of(demo.address(), 1).await;
    let sample = support::sample();
    let (digest, _) = sample.repository(APP).unwrap().blobs().next().unwrap();
    let request = StreamBlobRequest {
        registry: REGISTRY.to_owned(),
        repository: APP.to_owned(),
        digest: digest.to_string(),
        ..StreamBlobRequest::default()
    };
    let mut stream = fleet.service.client().await.stream_blob(request).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
    assert!(fleet.requests().contains(&BudgetedRequest::RateOnly), "{:?}", fleet.requests());
    assert!(!fleet.requests().contains(&BudgetedRequest::Concurrent), "{:?}", fleet.requests());
}

#[tokio::test]
async fn a_pause_that_another_replica_was_asked_for_is_kept_here() {
    let registry = GatedRegistry::start().await;
    let fleet = Fleet::in_front_of(registry.address, 1).await;
    let client = fleet.service.client().await;
    *fleet.pauses.0.lock().unwrap() = Some(Instant::now() + PATIENCE);
    let refused = list_tags(&client, "", "a", Duration::from_secs(5)).await.unwrap_err();
    let failure =
        Failure::expect(refused, tonic::Code::ResourceExhausted, "REGISTRY_RATE_LIMITED", "a pause");
    assert!(failure.retry_ms().is_some_and(|ms| ms > 30_000), "{:?}", failure.details);
    *fleet.pauses.0.lock().unwrap() = None;
    registry.complete(1);
    list_tags(&client, "", "a", PATIENCE).await.unwrap();
    assert_eq!(registry.requests(1).await.len(), 1);
}
