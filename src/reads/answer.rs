//! A response, where it came from, and how old it is.

use std::time::Duration;

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

impl<T> Answer<T> {
    /// A response that the registry has just given.
    pub(super) fn new(value: T, source: Source) -> Self {
        Self { value, source, age: Duration::ZERO }
    }

    pub(super) fn map<U>(self, map: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: map(self.value), source: self.source, age: self.age }
    }
}
