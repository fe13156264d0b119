//! The engine that the replicas of a fleet share, made from its section of the configuration.

use crate::{
    config::{CacheShared, RegistryFleet},
    reads::fleet::{BudgetLimits, Engine, Settings},
};

/// The engine. The error names the key.
pub(super) fn engine(shared: &CacheShared) -> Result<Engine, String> {
    let CacheShared { url, username, password_file, ca_file, prefix } = shared.clone();
    Engine::new(&Settings { url, username, password_file, ca_file, prefix })
}

/// What all replicas together may do to a registry.
pub(super) fn limits(fleet: RegistryFleet) -> BudgetLimits {
    BudgetLimits {
        requests_per_second: fleet.requests_per_second.map(Into::into),
        max_concurrent_requests: fleet.max_concurrent_requests.map(Into::into),
    }
}
