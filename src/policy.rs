//! Which registry a caller may reach. Pure: the address guard below asks the network's questions.

use std::collections::HashSet;

use crate::{
    error::{At, RexError},
    oci::Registry,
};

/// The operator's word on registries.
#[derive(Debug, Clone)]
pub struct Policy {
    default_registry: Registry,
    listed: HashSet<Registry>,
    allow_unlisted: bool,
}

impl Policy {
    /// A policy that admits the listed registries, and every other one if `allow_unlisted`.
    #[must_use]
    pub fn new(default_registry: Registry, listed: HashSet<Registry>, allow_unlisted: bool) -> Self {
        Self { default_registry, listed, allow_unlisted }
    }

    /// The registry that an empty name means.
    #[must_use]
    pub fn default_registry(&self) -> &Registry {
        &self.default_registry
    }

    /// Lets a call to a registry pass, or says why not.
    pub fn admit(&self, registry: &Registry) -> Result<(), RexError> {
        if self.allow_unlisted || self.listed.contains(registry) {
            return Ok(());
        }
        Err(RexError::RegistryNotAllowed {
            at: At { registry: registry.to_string(), ..At::default() },
            problem:
                "this service is not configured for the registry; the operator can add it under `registries`"
                    .to_owned(),
        })
    }
}
