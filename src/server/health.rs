//! Readiness, as load balancers check it: `grpc.health.v1` on the service's port and `/readyz` on the ops port. Ready
//! means that this process accepts calls; it does not depend on any registry.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::{HealthReporter, HealthService},
};

/// The names whose health callers may check: the server as a whole, which has the empty name, and its service.
const NAMES: [&str; 2] = ["", "rex.registry.v1.RegistryService"];

/// A request is the name of a service. tonic's default is 4 MiB, and the service's callers need no token.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// Whether this process accepts calls. Clones share one state.
#[derive(Clone, Debug)]
pub struct Readiness {
    draining: Arc<AtomicBool>,
    reporter: HealthReporter,
}

impl Readiness {
    /// Starts as ready. Also returns the health service, to be added to the routes.
    pub async fn new() -> (Self, HealthServer<impl Health>) {
        let readiness = Self { draining: Arc::default(), reporter: HealthReporter::new() };
        readiness.report(ServingStatus::Serving).await;
        let service = HealthService::from_health_reporter(readiness.reporter.clone());
        (readiness, HealthServer::new(service).max_decoding_message_size(MAX_REQUEST_BYTES))
    }

    /// Reports "not ready" from now on, also to clients that watch the health.
    pub async fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.report(ServingStatus::NotServing).await;
    }

    /// Whether [`drain`](Self::drain) was called.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    async fn report(&self, status: ServingStatus) {
        for name in NAMES {
            self.reporter.set_service_status(name, status).await;
        }
    }
}
