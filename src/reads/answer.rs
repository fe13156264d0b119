//! A response, where it came from, and how old it is.

use std::time::Duration;

use tokio::time::Instant;

/// Where a response came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// It was kept, and is as new as the call requires.
    Hit,
    /// It was kept, and the registry confirmed it.
    Revalidated,
    /// It was kept, and the registry does not respond.
    Stale,
    /// The registry sent it.
    Miss,
}

/// A response, where it came from, and how old it is.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// The response.
    pub value: T,
    /// Where it came from.
    pub source: Source,
    /// The time since the registry was asked for it.
    pub age: Duration,
}

/// A response of a registry, and when it was asked. All calls that waited for it get it, each at its own time.
#[derive(Debug, Clone)]
pub(super) struct Asked<T> {
    pub(super) value: T,
    pub(super) source: Source,
    pub(super) asked: Instant,
}

impl<T> Asked<T> {
    pub(super) fn answer(self) -> Answer<T> {
        Answer { value: self.value, source: self.source, age: self.asked.elapsed() }
    }
}

impl<T> Answer<T> {
    /// A response that the registry has just given.
    pub(super) fn new(value: T, source: Source) -> Self {
        Self { value, source, age: Duration::ZERO }
    }

    /// The same with another value.
    #[must_use]
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: map(self.value), source: self.source, age: self.age }
    }
}
