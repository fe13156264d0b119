//! How many blobs may be streamed at once, and how much memory that may take. A stream beyond it is refused before
//! anything is sent to a registry: a refusal costs the caller a retry, an overload costs everybody everything.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::RexError;

/// What a stream is counted with: its buffers towards the registry and towards the caller, stalled or not.
const STREAM_BYTES: usize = 256 * 1024;

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Limits over all streams of the service.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// The most streams at once.
    pub max_streams: usize,
    /// The most bytes that all streams together may hold.
    pub memory_bytes: usize,
    /// How long a caller may stand still before its stream is reset.
    pub write_stall: Duration,
}

/// Hands out permits; a permit is good for one stream and lives as long as it.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    streams: Arc<Semaphore>,
    limits: StreamLimits,
}

impl Admission {
    pub(super) fn new(limits: StreamLimits) -> Self {
        let streams = limits.max_streams.min(limits.memory_bytes / STREAM_BYTES).min(Semaphore::MAX_PERMITS);
        Self { streams: Arc::new(Semaphore::new(streams)), limits }
    }

    /// How long a caller may stand still.
    pub(super) fn write_stall(&self) -> Duration {
        self.limits.write_stall
    }

    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, RexError> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| RexError::Overloaded {
            problem: format!(
                "{} streams, or {} bytes for them, are in use",
                self.limits.max_streams, self.limits.memory_bytes
            ),
            retry_after: RETRY_AFTER,
        })
    }
}
