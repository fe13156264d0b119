//! On whose behalf a call is made.

use std::hash::{DefaultHasher, Hash, Hasher as _};

/// On whose behalf a call is made. Calls with the same share wait in the same queue, and each share has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share(u64);

impl Share {
    /// The share of this name, address, or whatever tells those who share the service apart.
    #[must_use]
    pub fn of(whose: impl Hash) -> Self {
        // A number, so that no call has to allocate one. Names come from the operator, who gains nothing from a collision.
        let mut hasher = DefaultHasher::new();
        whose.hash(&mut hasher);
        Self(hasher.finish())
    }
}
