//! Callers that stop reading a blob stream.
//!
//! The flow-control window of such a caller closes, and hyper stops polling the stream. After a few seconds the stream
//! gives up its connection to the registry and all bytes that are not in h2 yet; it resumes with a Range request when the
//! caller reads again. After the limit, or past the call's deadline, the stream is reset.
//!
//! A caller that reads very slowly never stops, and would hold a connection for as long as it likes. So its stream gives up its
//! connection, too, once within each limit. When the stream resumes, it waits for its turn with all others.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{deadline::Deadline, frame::Shared};

/// How often a stream is checked: long enough for callers that only pause, short enough that a thousand stalled callers do
/// not matter.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// A caller that reads fewer bytes a second than this, on average over the limit, does not keep its connection to the registry.
/// At this rate, the permits for 500 blobs of one registry bring 8 MiB/s.
const LEAST_RATE: u64 = 16 * 1024;

/// The watchdog of a stream. Completes when the stream must be reset.
pub(super) async fn watch(stream: Arc<Shared>, limit: Duration, deadline: Deadline) {
    tokio::select! {
        () = stalled(&stream, limit) => {
            tracing::info!(?limit, "the stream is reset: its caller reads nothing");
        }
        () = deadline.passed() => {}
    }
}

async fn stalled(stream: &Shared, limit: Duration) {
    let mut seen = stream.steps();
    let mut moved = Instant::now();
    let (mut window, mut from) = (moved, stream.position().unwrap_or_default());
    loop {
        sleep(CHECK_INTERVAL.min(limit / 4)).await;
        // A stream that waits for its registry has no position now. It is checked when it waits for its caller again.
        if window.elapsed() >= limit
            && let Some(position) = stream.position()
        {
            if position.saturating_sub(from) < window.elapsed().as_secs().saturating_mul(LEAST_RATE) {
                stream.detach();
            }
            (window, from) = (Instant::now(), position);
        }
        let steps = stream.steps();
        if steps != seen || stream.is_making_a_message() {
            (seen, moved) = (steps, Instant::now());
            continue;
        }
        stream.detach();
        if moved.elapsed() >= limit {
            return;
        }
    }
}
