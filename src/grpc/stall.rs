//! Callers that stop reading a blob stream.
//!
//! The flow-control window of such a caller closes, and hyper stops polling the stream. After a few seconds the stream
//! gives up its connection to the registry and all bytes that are not in h2 yet; it resumes with a Range request when the
//! caller reads again. After the limit, or past the call's deadline, the stream is reset.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{deadline::Deadline, frame::Shared};

/// How often a stream is checked: long enough for callers that only pause, short enough that a thousand stalled callers do
/// not matter.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

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
    loop {
        sleep(CHECK_INTERVAL.min(limit / 4)).await;
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
