//! What a token is for: the `scope` of Docker's token protocol ("Token Scope Documentation" of distribution).

use crate::oci::Repository;

/// Built from the operation, never from a challenge.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// No more than signing in.
    Ping,
    /// Reading a repository.
    Pull(Repository),
    /// Listing the registry's repositories.
    Catalog,
}

impl Scope {
    /// The scope as a token service wants it; `None` where it is left out.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Ping => None,
            Self::Pull(repository) => Some(format!("repository:{repository}:pull")),
            Self::Catalog => Some("registry:catalog:*".to_owned()),
        }
    }

    /// The repository it is about.
    pub(crate) fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Pull(repository) => Some(repository),
            Self::Ping | Self::Catalog => None,
        }
    }
}
