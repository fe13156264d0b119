//! Which registries the service may reach, what each caller may read of them, and how much. No I/O: the egress guard checks
//! addresses, and `callers` identifies the caller and enforces its limits.

use std::{collections::HashSet, num::NonZeroU64, str::FromStr, sync::Arc};

use crate::{
    error::{At, RexError},
    oci::{ParseError, Registry, Repository},
};

/// The registries that the service may reach.
#[derive(Debug, Clone)]
pub struct Policy {
    default_registry: Option<Registry>,
    listed: HashSet<Registry>,
    allow_unlisted: bool,
}

impl Policy {
    /// A policy that admits the listed registries, and also every other one if `allow_unlisted` is set.
    #[must_use]
    pub fn new(default_registry: Option<Registry>, listed: HashSet<Registry>, allow_unlisted: bool) -> Self {
        Self { default_registry, listed, allow_unlisted }
    }

    /// The registry of a request that names none; `None` if such a request is an error.
    #[must_use]
    pub fn default_registry(&self) -> Option<&Registry> {
        self.default_registry.as_ref()
    }

    /// Checks that a caller may make a call to a registry.
    ///
    /// # Errors
    ///
    /// [`RexError::CallerNotAllowed`] or [`RexError::RegistryNotAllowed`].
    pub fn admit(
        &self,
        caller: &Caller,
        registry: &Registry,
        resource: Resource<'_>,
    ) -> Result<(), RexError> {
        // First, so that a caller cannot find out which registries are configured.
        caller.admit(registry, resource)?;
        if !self.allow_unlisted && !self.listed.contains(registry) {
            return Err(RexError::RegistryNotAllowed {
                at: At { registry: registry.to_string(), ..At::default() },
                problem: "this service is not configured for the registry; the operator can add it under `registries`"
                    .to_owned(),
            });
        }
        Ok(())
    }
}

/// What a call reads. Grants distinguish these kinds.
#[derive(Debug, Clone, Copy)]
pub enum Resource<'a> {
    /// Whether the registry responds, without any content.
    Ping,
    /// The names of all repositories.
    Catalog,
    /// The tags, manifests and blobs of a repository.
    Repository(&'a Repository),
}

/// A caller, what it may read, and how much.
#[derive(Debug, Clone)]
pub struct Caller {
    name: Arc<str>,
    grants: Arc<[Grant]>,
    limits: CallerLimits,
}

impl Caller {
    /// A caller with these grants and no limits. Without a grant it may read nothing.
    #[must_use]
    pub fn new(name: &str, grants: Vec<Grant>) -> Self {
        Self { name: name.into(), grants: grants.into(), limits: CallerLimits::default() }
    }

    /// The caller with these limits.
    #[must_use]
    pub fn with_limits(self, limits: CallerLimits) -> Self {
        Self { limits, ..self }
    }

    /// The caller of every call when no callers are configured. It may read everything that the service may.
    #[must_use]
    pub fn anybody() -> Self {
        Self::new("anybody", vec![Grant::Everything])
    }

    /// The name that the operator gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How much it may use.
    #[must_use]
    pub fn limits(&self) -> &CallerLimits {
        &self.limits
    }

    fn admit(&self, registry: &Registry, resource: Resource<'_>) -> Result<(), RexError> {
        if self.grants.iter().any(|grant| grant.covers(registry, resource)) {
            return Ok(());
        }
        let (repository, what) = match resource {
            Resource::Ping => (None, "the registry"),
            Resource::Catalog => (None, "the catalog of the registry"),
            Resource::Repository(repository) => (Some(repository.to_string()), "the repository"),
        };
        Err(RexError::CallerNotAllowed {
            at: At { registry: registry.to_string(), repository, ..At::default() },
            problem: format!(
                "the caller {:?} may not read {what}; the operator can add it under `callers`",
                self.name
            ),
        })
    }
}

/// How much a caller may use. `None` is no limit but those of the service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallerLimits {
    /// The most StreamBlob calls at once.
    pub max_streams: Option<NonZeroU64>,
    /// The most calls at once, streams included.
    pub max_calls: Option<NonZeroU64>,
    /// The calls that may begin each second. After a pause, one second's worth may begin at once.
    pub requests_per_second: Option<NonZeroU64>,
    /// The bytes of blobs that are sent each second over all streams.
    pub bytes_per_second: Option<NonZeroU64>,
}

/// What a caller may read, in the form of the configuration: `ghcr.io`, `ghcr.io/org/`, `ghcr.io/org/app`, or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Everything that the service may read.
    Everything,
    /// A registry: its catalog, and every repository.
    Registry(Registry),
    /// The repositories whose names start with these path segments and have at least one more.
    Prefix(Registry, Repository),
    /// One repository.
    Repository(Registry, Repository),
}

impl Grant {
    /// The registry of the grant; `None` for all registries.
    #[must_use]
    pub fn registry(&self) -> Option<&Registry> {
        match self {
            Self::Everything => None,
            Self::Registry(registry) | Self::Prefix(registry, _) | Self::Repository(registry, _) => {
                Some(registry)
            }
        }
    }

    fn covers(&self, registry: &Registry, resource: Resource<'_>) -> bool {
        if self.registry().is_some_and(|granted| granted != registry) {
            return false;
        }
        match (self, resource) {
            (Self::Everything | Self::Registry(_), _) | (_, Resource::Ping) => true,
            (Self::Prefix(..) | Self::Repository(..), Resource::Catalog) => false,
            (Self::Prefix(_, prefix), Resource::Repository(repository)) => {
                let rest = repository.as_str().strip_prefix(prefix.as_str());
                rest.is_some_and(|rest| rest.starts_with('/'))
            }
            (Self::Repository(_, granted), Resource::Repository(repository)) => granted == repository,
        }
    }
}

impl FromStr for Grant {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text == "*" {
            return Ok(Self::Everything);
        }
        let Some((registry, path)) = text.split_once('/') else {
            return Ok(Self::Registry(text.parse()?));
        };
        let registry: Registry = registry.parse()?;
        match path.strip_suffix('/') {
            // Not `Repository::of`: on Docker Hub, `docker.io/org/` is not below `library`.
            Some(prefix) => Ok(Self::Prefix(registry, prefix.parse()?)),
            None => {
                let repository = Repository::of(&registry, path)?;
                Ok(Self::Repository(registry, repository))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn caller(grants: &[&str]) -> Caller {
        Caller::new("build", grants.iter().map(|grant| grant.parse().unwrap()).collect())
    }

    fn may_read(caller: &Caller, registry: &str, repository: &str) -> bool {
        let registry = registry.parse().unwrap();
        let repository = Repository::of(&registry, repository).unwrap();
        caller.admit(&registry, Resource::Repository(&repository)).is_ok()
    }

    fn may_list(caller: &Caller, registry: &str) -> bool {
        caller.admit(&registry.parse().unwrap(), Resource::Catalog).is_ok()
    }

    fn may_ping(caller: &Caller, registry: &str) -> bool {
        caller.admit(&registry.parse().unwrap(), Resource::Ping).is_ok()
    }

    #[test]
    fn a_caller_without_a_grant_may_read_nothing() {
        let caller = caller(&[]);
        assert!(!may_ping(&caller, "ghcr.io") && !may_list(&caller, "ghcr.io"));
        assert!(!may_read(&caller, "ghcr.io", "org/app"));
    }

    #[test]
    fn a_registry_is_granted_with_its_catalog_and_all_its_repositories_and_no_other_registry() {
        let caller = caller(&["ghcr.io"]);
        assert!(may_ping(&caller, "ghcr.io") && may_list(&caller, "ghcr.io"));
        assert!(may_read(&caller, "ghcr.io", "org/app") && may_read(&caller, "GHCR.io", "app"));
        for other in ["quay.io", "ghcr.io:5000", "ghcr.io.example.com", "docker.io"] {
            assert!(!may_ping(&caller, other) && !may_list(&caller, other), "{other}");
            assert!(!may_read(&caller, other, "org/app"), "{other}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_slash_and_does_not_open_the_catalog() {
        let caller = caller(&["ghcr.io/org/"]);
        assert!(may_ping(&caller, "ghcr.io"));
        assert!(may_read(&caller, "ghcr.io", "org/app") && may_read(&caller, "ghcr.io", "org/team/app"));
        for repository in ["org", "organisation/app", "org-2/app", "other/org/app"] {
            assert!(!may_read(&caller, "ghcr.io", repository), "{repository}");
        }
        assert!(!may_list(&caller, "ghcr.io"));
        assert!(!may_read(&caller, "quay.io", "org/app"));
    }

    #[test]
    fn a_repository_is_granted_alone() {
        let caller = caller(&["ghcr.io/org/app", "registry.internal:5000/team/"]);
        assert!(may_read(&caller, "ghcr.io", "org/app"));
        assert!(may_read(&caller, "registry.internal:5000", "team/x"));
        for repository in ["org/app/sub", "org/app2", "org", "team/x"] {
            assert!(!may_read(&caller, "ghcr.io", repository), "{repository}");
        }
        assert!(!may_list(&caller, "ghcr.io"));
    }

    #[test]
    fn on_docker_hub_one_word_is_an_official_image_and_a_prefix_is_an_organisation() {
        let image = caller(&["docker.io/nginx"]);
        assert!(may_read(&image, "docker.io", "nginx") && may_read(&image, "docker.io", "library/nginx"));
        assert!(may_read(&image, "index.docker.io", "nginx"));
        let organisation = caller(&["docker.io/grafana/"]);
        assert!(may_read(&organisation, "docker.io", "grafana/loki"));
        assert!(!may_read(&organisation, "docker.io", "grafana"));
    }

    #[test]
    fn a_default_port_does_not_change_a_grant() {
        for granted in ["ghcr.io", "ghcr.io:443", "ghcr.io:0443"] {
            let caller = caller(&[&format!("{granted}/org/")]);
            for name in ["ghcr.io", "ghcr.io:443", "GHCR.IO:0443"] {
                assert!(may_read(&caller, name, "org/app"), "{granted} and {name}");
                assert!(!may_read(&caller, name, "other/app"), "{granted} and {name}");
            }
            assert!(!may_read(&caller, "ghcr.io:4430", "org/app"), "{granted}");
        }
        let image = caller(&["docker.io:443/nginx"]);
        assert!(may_read(&image, "index.docker.io:443", "library/nginx"));
    }

    #[test]
    fn a_star_grants_everything_that_the_service_may_read() {
        let caller = caller(&["*"]);
        assert!(may_list(&caller, "ghcr.io") && may_read(&caller, "quay.io", "org/app"));
        let policy = Policy::new(None, HashSet::from(["ghcr.io".parse().unwrap()]), false);
        assert!(matches!(
            policy.admit(&caller, &"quay.io".parse().unwrap(), Resource::Ping),
            Err(RexError::RegistryNotAllowed { .. })
        ));
    }

    #[test]
    fn invalid_grants_are_rejected() {
        for text in [
            "",
            "/",
            "ghcr.io/",
            "ghcr.io//",
            "ghcr.io/Org/",
            "ghcr.io/org//",
            "ghcr.io/../x",
            "https://ghcr.io",
            "ghcr.io/*",
            "**",
        ] {
            assert!(text.parse::<Grant>().is_err(), "{text:?}");
        }
    }
}
