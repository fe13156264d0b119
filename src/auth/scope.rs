//! The scope of a token ("Token Scope Documentation" of distribution).

use crate::oci::Repository;

/// The access that a request needs. It is built from the operation, never from a challenge.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Only the sign-in itself.
    Ping,
    /// Reading a repository.
    Pull(Repository),
    /// Listing the registry's repositories.
    Catalog,
}

impl Scope {
    /// The scope in the form that token services expect; `None` if the request has none.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Ping => None,
            Self::Pull(repository) => Some(format!("repository:{repository}:pull")),
            Self::Catalog => Some("registry:catalog:*".to_owned()),
        }
    }

    /// The repository, for scopes that have one.
    pub(crate) fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Pull(repository) => Some(repository),
            Self::Ping | Self::Catalog => None,
        }
    }
}
