//! How many blobs may be streamed at once, and how much memory that may take. A stream beyond it is refused before
//! anything is sent to a registry: a refusal costs the caller a retry, an overload costs everybody everything.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::RexError;

/// What a stream holds besides its chunks: connections, their buffers, its own state; measured, see the README.
const BASE_BYTES: usize = 128 * 1024;

/// Chunks that a stream may hold for a caller who does not read: one on its way, one waiting.
const CHUNKS: usize = 2;

/// What memory is counted in; a semaphore has no room for bytes.
const UNIT_BYTES: usize = 64 * 1024;

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Limits over all streams of the service.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// The most streams at once.
    pub max_streams: usize,
    /// The most bytes that all streams together may hold; a stream with default chunks is counted with 256 KiB.
    pub memory_bytes: usize,
    /// How long a caller may stand still before its stream is reset.
    pub write_stall: Duration,
}

/// Hands out permits.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    streams: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    limits: StreamLimits,
}

/// Good for one stream, and lives as long as it.
#[derive(Debug)]
pub(super) struct StreamPermit {
    _stream: OwnedSemaphorePermit,
    _memory: OwnedSemaphorePermit,
}

impl Admission {
    pub(super) fn new(limits: StreamLimits) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self {
            streams: semaphore(limits.max_streams),
            memory: semaphore(limits.memory_bytes / UNIT_BYTES),
            limits,
        }
    }

    /// How long a caller may stand still.
    pub(super) fn write_stall(&self) -> Duration {
        self.limits.write_stall
    }

    /// Lets a stream of such chunks begin.
    pub(super) fn admit(&self, chunk_bytes: usize) -> Result<StreamPermit, RexError> {
        let overloaded = |problem| RexError::Overloaded { problem, retry_after: RETRY_AFTER };
        let units = (BASE_BYTES + CHUNKS * chunk_bytes).div_ceil(UNIT_BYTES);
        let stream = Arc::clone(&self.streams).try_acquire_owned();
        let memory =
            Arc::clone(&self.memory).try_acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX));
        Ok(StreamPermit {
            _stream: stream
                .map_err(|_| overloaded(format!("{} streams are running", self.limits.max_streams)))?,
            _memory: memory.map_err(|_| {
                overloaded(format!("streams hold the {} bytes they may", self.limits.memory_bytes))
            })?,
        })
    }
}
