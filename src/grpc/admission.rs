//! How many blobs may be streamed at once, and how much memory that may take, large answers included. A refusal costs the
//! caller a retry, an overload costs everybody everything. A stream beyond the limits is refused before anything is sent to a
//! registry; an answer only when its size is known, so that small ones are served whatever the large ones hold.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::RexError;

/// What a stream holds besides its chunks: connections, their buffers, its own state; measured, see the README.
const BASE_BYTES: usize = 128 * 1024;

/// Chunks that a stream may hold for a caller who does not read: one on its way, one waiting.
const CHUNKS: usize = 2;

/// What memory is counted in; a semaphore has no room for bytes.
const UNIT_BYTES: usize = 1024;

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Limits over all streams of the service.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// The most streams at once.
    pub max_streams: usize,
    /// The most bytes that all streams and large answers together may hold; a stream with default chunks is counted with
    /// 256 KiB, an answer of more than 16 KiB with its size.
    pub memory_bytes: usize,
    /// How long a caller may stand still before its stream, or its large answer, is reset.
    pub write_stall: Duration,
}

/// Hands out permits.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    streams: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    limits: StreamLimits,
}

/// Good for one stream, and lives until the last of its bytes is written.
#[derive(Debug)]
pub(super) struct StreamPermit {
    _stream: OwnedSemaphorePermit,
    _memory: MemoryPermit,
}

/// Good for some memory, and lives as long as what is in it.
#[derive(Debug)]
pub(super) struct MemoryPermit(#[expect(dead_code, reason = "held, never read")] OwnedSemaphorePermit);

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
        let stream = Arc::clone(&self.streams)
            .try_acquire_owned()
            .map_err(|_| overloaded(format!("{} streams are running", self.limits.max_streams)))?;
        Ok(StreamPermit { _stream: stream, _memory: self.hold(BASE_BYTES + CHUNKS * chunk_bytes)? })
    }

    /// Lets that many bytes be held. What is larger than all the memory is let in alone, for it would be refused for ever.
    pub(super) fn hold(&self, bytes: usize) -> Result<MemoryPermit, RexError> {
        let units = bytes.div_ceil(UNIT_BYTES).min(self.limits.memory_bytes / UNIT_BYTES);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.memory).try_acquire_many_owned(units);
        memory.map(MemoryPermit).map_err(|_| {
            overloaded(format!("streams and answers hold the {} bytes they may", self.limits.memory_bytes))
        })
    }
}

fn overloaded(problem: String) -> RexError {
    RexError::Overloaded { problem, retry_after: RETRY_AFTER }
}
