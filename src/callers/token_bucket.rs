//! A token bucket: so many tokens a second, and a burst of one second's worth.
//!
//! It does no I/O and reads no clock: each method is passed the time. The `governor` crate is not used. It refuses to
//! take more tokens than a burst has, and cannot return those of a stream that was cancelled while it waited. Its clock is
//! not tokio's, so tests could not pause it.

use std::{num::NonZeroU64, time::Duration};

use tokio::time::Instant;

/// A token is counted in billionths. So a nanosecond adds exactly the rate, and nothing is lost by rounding.
const UNITS: i128 = 1_000_000_000;

/// A bucket of tokens.
#[derive(Debug)]
pub(super) struct TokenBucket {
    tokens_per_second: NonZeroU64,
    /// In billionths of a token. Negative while tokens are owed.
    level: i128,
    /// When `level` was last brought up to date.
    updated: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(super) fn new(tokens_per_second: NonZeroU64, now: Instant) -> Self {
        let mut bucket = Self { tokens_per_second, level: 0, updated: now };
        bucket.level = bucket.capacity();
        bucket
    }

    /// Takes a token if there is one. The error is the time until there is one, rounded up to milliseconds, which is the
    /// unit of `grpc-retry-pushback-ms`.
    pub(super) fn try_take(&mut self, now: Instant) -> Result<(), Duration> {
        self.update(now);
        if self.level >= UNITS {
            self.level -= UNITS;
            return Ok(());
        }
        let wait = self.time_for(UNITS - self.level);
        Err(Duration::from_millis(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)))
    }

    /// Takes this many tokens in any case, and returns the time until the last of them is there. Tokens taken later come
    /// after them.
    pub(super) fn take(&mut self, count: usize, now: Instant) -> Duration {
        self.update(now);
        self.level -= units(count);
        self.time_for(-self.level)
    }

    /// Returns tokens that were taken and not used.
    pub(super) fn give_back(&mut self, count: usize) {
        self.level = (self.level + units(count)).min(self.capacity());
    }

    fn update(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated).as_nanos();
        let added = i128::try_from(elapsed).unwrap_or(i128::MAX).saturating_mul(self.rate());
        self.level = self.level.saturating_add(added).min(self.capacity());
        self.updated = self.updated.max(now);
    }

    /// The time in which this much is added.
    fn time_for(&self, units: i128) -> Duration {
        let nanos = u128::try_from(units).unwrap_or(0).div_ceil(self.tokens_per_second.get().into());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Tokens a second are billionths of a token a nanosecond.
    fn rate(&self) -> i128 {
        self.tokens_per_second.get().into()
    }

    /// One second's worth.
    fn capacity(&self) -> i128 {
        self.rate() * UNITS
    }
}

fn units(tokens: usize) -> i128 {
    i128::try_from(tokens).unwrap_or(i128::MAX / UNITS) * UNITS
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn bucket(tokens_per_second: u64) -> (TokenBucket, Instant) {
        let now = Instant::now();
        (TokenBucket::new(NonZeroU64::new(tokens_per_second).unwrap(), now), now)
    }

    /// How many tokens can be taken one by one at this time.
    fn drain(bucket: &mut TokenBucket, now: Instant) -> usize {
        std::iter::from_fn(|| bucket.try_take(now).ok()).count()
    }

    #[test]
    fn a_burst_is_one_seconds_worth() {
        for rate in [1, 3, 7, 1000] {
            let (mut bucket, now) = bucket(rate);
            assert_eq!(drain(&mut bucket, now), rate as usize);
            let much_later = now + Duration::from_secs(1_000_000);
            assert_eq!(drain(&mut bucket, much_later), rate as usize, "a pause adds no more than a burst");
        }
    }

    #[test]
    fn the_error_of_an_empty_bucket_is_the_time_until_a_token_is_there() {
        for (rate, wait) in [(1, 1000), (2, 500), (3, 334), (1000, 1), (1_000_000, 1)] {
            let (mut bucket, now) = bucket(rate);
            drain(&mut bucket, now);
            let wait = Duration::from_millis(wait);
            assert_eq!(bucket.try_take(now), Err(wait), "{rate} a second");
            assert_eq!(bucket.try_take(now + wait), Ok(()), "{rate} a second");
        }
    }

    #[test]
    fn a_token_is_not_there_before_its_time() {
        let (mut bucket, now) = bucket(4);
        drain(&mut bucket, now);
        let before = now + Duration::from_millis(250) - Duration::from_nanos(1);
        assert_eq!(bucket.try_take(before), Err(Duration::from_millis(1)));
        assert_eq!(bucket.try_take(now + Duration::from_millis(250)), Ok(()));
    }

    #[test]
    fn no_token_is_lost_by_rounding() {
        let (mut bucket, mut now) = bucket(999_983);
        drain(&mut bucket, now);
        let mut taken = 0;
        for _ in 0..1_000 {
            now += Duration::from_millis(1);
            taken += drain(&mut bucket, now);
        }
        assert_eq!(taken, 999_983);
    }

    proptest! {
        /// Whenever they are taken, they are the burst and what the rate adds, to the token.
        #[test]
        fn tokens_come_at_the_rate(
            rate in 2..200_u64,
            pauses in prop::collection::vec(0..500_000_000_u64, 1..40),
        ) {
            let (mut bucket, begin) = bucket(rate);
            let (mut now, mut taken) = (begin, drain(&mut bucket, begin) as u128);
            for pause in pauses {
                now += Duration::from_nanos(pause);
                taken += drain(&mut bucket, now) as u128;
                let added = (now - begin).as_nanos() * u128::from(rate) / 1_000_000_000;
                prop_assert_eq!(taken, u128::from(rate) + added);
            }
        }
    }

    #[test]
    fn tokens_that_are_owed_delay_the_next_ones() {
        let (mut bucket, now) = bucket(100);
        assert_eq!(bucket.take(100, now), Duration::ZERO);
        assert_eq!(bucket.take(50, now), Duration::from_millis(500));
        assert_eq!(bucket.take(50, now), Duration::from_secs(1));
        assert_eq!(
            bucket.take(300, now + Duration::from_secs(1)),
            Duration::from_secs(3),
            "more than a burst"
        );
    }

    #[test]
    fn returned_tokens_can_be_taken_again_and_do_not_enlarge_a_burst() {
        let (mut bucket, now) = bucket(100);
        bucket.take(100, now);
        bucket.take(80, now);
        bucket.give_back(80);
        assert_eq!(bucket.take(10, now), Duration::from_millis(100));
        bucket.give_back(1_000_000);
        assert_eq!(drain(&mut bucket, now), 100);
    }

    #[test]
    fn a_clock_that_goes_back_adds_nothing() {
        let (mut bucket, now) = bucket(10);
        let later = now + Duration::from_secs(5);
        assert_eq!(bucket.take(20, later), Duration::from_secs(1));
        assert_eq!(bucket.take(0, now), Duration::from_secs(1));
        assert_eq!(bucket.take(0, later), Duration::from_secs(1));
    }
}
