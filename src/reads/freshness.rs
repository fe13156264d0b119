//! How old a response may be, and when an older one is better than none: pure decisions.

use std::time::Duration;

use crate::error::RexError;

/// How old the responses of one call may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Freshness {
    /// A kept response up to this old is given without asking the registry.
    allowed: Duration,
    /// A kept response up to this old is given when the registry does not respond.
    if_error: Duration,
}

impl Freshness {
    /// The caller's `max_age` takes the place of the service's `configured` freshness, which may be older or younger. Neither lets a
    /// response be given after `access_check` without asking the registry whether it may still be read. A response that is given
    /// because the registry does not respond is never older than the caller's `max_age`.
    pub(super) fn new(
        max_age: Option<Duration>,
        configured: Duration,
        access_check: Duration,
        stale_if_error: Duration,
    ) -> Self {
        Self {
            allowed: max_age.unwrap_or(configured).min(access_check),
            if_error: max_age.map_or(stale_if_error, |max_age| max_age.min(stale_if_error)),
        }
    }

    /// How old a response may be that is given without asking.
    pub(super) fn allowed(self) -> Duration {
        self.allowed
    }

    /// Whether a response that is this old is given without asking. With zero, none is: it was asked for before the call came.
    pub(super) fn allows(self, age: Duration) -> bool {
        !self.allowed.is_zero() && age <= self.allowed
    }

    /// Whether a response that is this old is given when the registry does not respond.
    pub(super) fn allows_if_error(self, age: Duration) -> bool {
        !self.if_error.is_zero() && age <= self.if_error
    }
}

/// Whether an error means that the registry did not respond, so that a kept response may be given instead.
pub(super) fn is_no_response(error: &RexError) -> bool {
    matches!(
        error,
        RexError::Network { .. }
            | RexError::Timeout { .. }
            | RexError::Server { .. }
            | RexError::RateLimit { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_callers_age_replaces_the_services_and_access_is_checked_whatever_it_is() {
        let table = [
            // max_age, configured, access_check -> allowed
            (None, s(0), s(300), s(0)),
            (None, s(30), s(300), s(30)),
            (Some(s(0)), s(30), s(300), s(0)),
            (Some(s(5)), s(30), s(300), s(5)),
            (Some(s(60)), s(30), s(300), s(60)),
            (Some(s(3600)), s(30), s(300), s(300)),
            (None, s(3600), s(300), s(300)),
            (Some(Duration::MAX), s(0), s(0), s(0)),
        ];
        for (max_age, configured, access_check, allowed) in table {
            let freshness = Freshness::new(max_age, configured, access_check, s(0));
            assert_eq!(freshness.allowed(), allowed, "{max_age:?} {configured:?}");
            assert_eq!(freshness.allows(allowed), !allowed.is_zero());
            assert!(!freshness.allows(allowed + s(1)));
            assert!(!freshness.allows_if_error(s(0)), "it is off unless configured");
        }
    }

    #[test]
    fn a_stale_response_is_never_older_than_the_caller_allows() {
        let unset = Freshness::new(None, s(0), s(300), s(600));
        assert!(unset.allows_if_error(s(600)) && !unset.allows_if_error(s(601)));
        let caller = Freshness::new(Some(s(10)), s(0), s(300), s(600));
        assert!(caller.allows_if_error(s(10)) && !caller.allows_if_error(s(11)));
        assert!(!Freshness::new(Some(s(0)), s(0), s(300), s(600)).allows_if_error(s(0)));
    }
}
