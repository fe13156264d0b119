//! What the replicas of a fleet share about one registry: its pauses and its budget. Who shares them is not known here.

use std::{fmt::Debug, pin::Pin, sync::Arc, time::Duration};

use tokio::time::Instant;

/// What the replicas of a fleet share about one registry.
#[derive(Debug, Clone)]
pub struct FleetSettings {
    /// The pauses that the registry has asked any replica for.
    pub pauses: Arc<dyn SharedPauses>,
    /// The budget of all replicas together. Absent: each has only its own bounds.
    pub budget: Option<Arc<dyn SharedBudget>>,
}

/// The pauses that registries have asked any replica for. Neither method waits.
pub trait SharedPauses: Debug + Send + Sync {
    /// Tells the other replicas that a registry asks for a pause.
    fn announce(&self, registry: &str, wait: Duration);

    /// The end of the pause that another replica has announced, if there is one.
    fn paused_until(&self, registry: &str) -> Option<Instant>;
}

/// The budget that all replicas together have for one registry.
pub trait SharedBudget: Debug + Send + Sync {
    /// Waits until a request fits into the budget. The request counts until its permit is dropped. Without a way to ask
    /// the other replicas, it is permitted at once. Cancel safe.
    fn admit(&self, request: BudgetedRequest) -> Pin<Box<dyn Future<Output = FleetPermit> + Send + '_>>;
}

/// How a request counts against a fleet's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetedRequest {
    /// Against the requests a second, and the requests in flight.
    Concurrent,
    /// Against the requests a second only.
    RateOnly,
}

/// The permit of a fleet for one request. It is returned when it is dropped.
#[derive(Debug)]
pub struct FleetPermit {
    _held: Option<Box<dyn Debug + Send + Sync>>,
}

impl FleetPermit {
    /// A permit that is returned by dropping `held`.
    #[must_use]
    pub fn new(held: Box<dyn Debug + Send + Sync>) -> Self {
        Self { _held: Some(held) }
    }

    /// A permit of which nothing is to be returned.
    #[must_use]
    pub fn untracked() -> Self {
        Self { _held: None }
    }
}
