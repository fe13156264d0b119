//! Callers who stand still: what their streams may hold, and for how long.
//!
//! A caller that does not read shuts its flow-control window, and the stream is no longer polled. After a few seconds it
//! gives its connection to the registry back, and every byte not yet on the way: it goes on by Range when the caller comes
//! back, so a stalled reader holds neither memory nor a registry's connection. After the limit, or past the call's
//! deadline, it is reset.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{deadline::Deadline, frame::Shared};

/// How often a stream is looked at. Long enough for a caller that only pauses, short enough that a thousand who stopped are
/// no burden.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A stream that is polled ends at its deadline by itself, with a status; this much later it is reset.
const LAST_WORDS: Duration = Duration::from_millis(20);

/// Runs beside a stream; ends when the stream must be reset.
pub(super) async fn watch(stream: Arc<Shared>, limit: Duration, deadline: Deadline) {
    tokio::select! {
        () = stands_still(&stream, limit) => {
            tracing::info!(?limit, "a stream's caller stood still; the stream is reset");
        }
        () = passes(deadline) => {}
    }
}

async fn stands_still(stream: &Shared, limit: Duration) {
    let mut seen = stream.turns();
    let mut moved = Instant::now();
    loop {
        sleep(LOOK_EVERY.min(limit / 4)).await;
        let turns = stream.turns();
        if turns != seen || stream.is_making_a_message() {
            (seen, moved) = (turns, Instant::now());
            continue;
        }
        stream.detach();
        if moved.elapsed() >= limit {
            return;
        }
    }
}

/// Ends a moment after the deadline.
pub(super) async fn passes(deadline: Deadline) {
    match deadline.instant() {
        Some(deadline) => sleep_until(deadline + LAST_WORDS).await,
        None => std::future::pending().await,
    }
}
