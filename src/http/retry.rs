//! Decides whether to retry a request, and waits with backoff and jitter.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

use super::{
    failure,
    pace::{MAX_WAIT, Pace},
    response::Response,
};
use crate::{
    error::{At, RexError},
    metrics,
};

/// The most tries of one request, the first one included.
const MAX_TRIES: u32 = 3;

/// The first backoff is a random time up to this, the next one up to twice as much.
const BASE_BACKOFF: Duration = Duration::from_millis(100);

/// Repeats `exchange` while another try may help, the budget allows one, and the server does not ask for a longer pause
/// than the caller can wait for: the deadline may become later meanwhile.
pub(super) async fn with_retries<F>(
    pace: &Pace,
    at: &At,
    deadline: impl Fn() -> Option<Instant>,
    exchange: impl Fn() -> F,
) -> Result<Response, RexError>
where
    F: Future<Output = Result<Response, RexError>>,
{
    pace.deposit();
    let mut tries = 0;
    loop {
        tries += 1;
        pace.wait(at, deadline()).await?;
        let outcome = exchange().await;
        let wait = match &outcome {
            Ok(response) if response.status().as_u16() == 429 => {
                let Some(wait) = response.retry_after() else {
                    return outcome;
                };
                if response.is_from_registry() {
                    pace.pause(wait);
                    metrics::paused(&at.registry);
                }
                wait
            }
            Ok(response) if failure::is_transient_status(response.status().as_u16()) => {
                response.retry_after().unwrap_or_else(|| backoff(tries))
            }
            Err(error) if failure::is_transient(error) => backoff(tries),
            Ok(_) | Err(_) => return outcome,
        };
        let too_late =
            deadline().is_some_and(|deadline| Instant::now() + wait >= deadline) || wait > MAX_WAIT;
        if tries >= MAX_TRIES || too_late {
            return outcome;
        }
        if !pace.withdraw() {
            metrics::retry_refused(&at.registry);
            return outcome;
        }
        metrics::retried(&at.registry);
        tracing::debug!(registry = at.registry, tries, ?wait, "trying again");
        drop(outcome);
        tokio::time::sleep(wait).await;
    }
}

/// Waits as long as before a retry of a request that has failed `tries` times.
pub(crate) async fn wait_before_try(tries: u32) {
    tokio::time::sleep(backoff(tries)).await;
}

/// How long to wait before try number `tries + 1`: full jitter, so that callers whose requests failed together do not retry
/// together (AWS Architecture Blog, "Exponential Backoff And Jitter").
fn backoff(tries: u32) -> Duration {
    let ceiling = BASE_BACKOFF.saturating_mul(1 << tries.saturating_sub(1).min(6));
    rand::rng().random_range(Duration::ZERO..=ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_is_bounded() {
        for tries in 1..100 {
            assert!(backoff(tries) <= Duration::from_millis(6400));
        }
    }
}
