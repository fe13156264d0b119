//! Counts the connections of a blob that were lost in a row without progress.

use crate::{
    error::{RexError, Wait},
    http::LEAST_RATE,
};

/// A lost connection becomes the caller's error after this many attempts in a row that brought no progress.
const MAX_WITHOUT_PROGRESS: u32 = 3;

/// The attempts in a row that brought no progress.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    without_progress: u32,
    /// Where progress begins: bytes before it came more slowly than the least rate.
    progress_from: u64,
}

impl Attempts {
    /// Notes that the bytes up to `position` were returned. Only returned bytes are progress: bytes that were held back are
    /// requested again.
    pub(super) fn returned(&mut self, position: u64) {
        if position >= self.progress_from {
            self.without_progress = 0;
        }
    }

    /// Notes a connection that was lost at `position`. Returns the number of attempts without progress; `None` if they are too
    /// many.
    pub(super) fn lost(&mut self, error: &RexError, position: u64) -> Option<u32> {
        if let RexError::Timeout { wait: Wait::LeastRate, limit, .. } = error {
            // A few bytes now and then would otherwise be progress for ever.
            self.progress_from = position.saturating_add(limit.as_secs().max(1).saturating_mul(LEAST_RATE));
        }
        self.without_progress += 1;
        (self.without_progress <= MAX_WITHOUT_PROGRESS).then_some(self.without_progress)
    }
}

/// Whether an error is a lost connection, after which the rest can be requested.
pub(super) fn is_lost_connection(error: &RexError) -> bool {
    matches!(error, RexError::Network { .. } | RexError::Timeout { .. } | RexError::Server { .. })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::At;

    fn timeout(wait: Wait) -> RexError {
        RexError::Timeout { at: At::default(), wait, limit: Duration::from_secs(30) }
    }

    #[test]
    fn any_byte_is_progress_after_a_lost_connection_but_not_after_a_slow_one() {
        let mut attempts = Attempts::default();
        for position in 0..10 {
            attempts.returned(position);
            assert_eq!(attempts.lost(&timeout(Wait::Body), position), Some(1));
        }
        attempts.returned(10);
        for count in [Some(1), Some(2), Some(3), None] {
            attempts.returned(10 + 1024 * 30 - 1);
            assert_eq!(attempts.lost(&timeout(Wait::LeastRate), 10), count);
        }
        attempts.returned(10 + 1024 * 30);
        assert_eq!(attempts.lost(&timeout(Wait::LeastRate), 40_000), Some(1));
    }
}
