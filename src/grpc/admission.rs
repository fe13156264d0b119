//! Limits on concurrent blob streams, and on the memory that streams and large responses use together. A refused caller
//! retries; an overloaded service would fail all callers. A stream over the limits is refused before any request is sent
//! to a registry. A response is refused only when its size is known, so that small ones are always served.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::RexError;

/// Memory that a stream uses besides its chunks: connections, their buffers, its own state. Measured: see docs/performance.md.
const BASE_BYTES: usize = 128 * 1024;

/// Chunks that a stream holds while its caller does not read: one in h2, one waiting.
const CHUNKS: usize = 2;

/// The unit of a memory permit; a semaphore's counter is too small for bytes.
const UNIT_BYTES: usize = 1024;

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Limits over all streams of the service.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// The most streams at once.
    pub max_streams: usize,
    /// The most bytes that all streams and large responses together may hold; a stream with default chunks is counted with
    /// 256 KiB, a response of more than 16 KiB with its size.
    pub memory_bytes: usize,
    /// How long a caller may read nothing before its stream or its large response is reset.
    pub write_stall: Duration,
}

/// Grants permits.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    streams: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    limits: StreamLimits,
}

/// Admits one stream. Held until the last of its bytes has left h2.
#[derive(Debug)]
pub(super) struct StreamPermit {
    _stream: OwnedSemaphorePermit,
    _memory: MemoryPermit,
}

/// Reserves memory until it is dropped.
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

    /// How long a caller may read nothing.
    pub(super) fn write_stall(&self) -> Duration {
        self.limits.write_stall
    }

    /// Admits a stream with chunks of this size.
    pub(super) fn admit_stream(&self, chunk_bytes: usize) -> Result<StreamPermit, RexError> {
        let stream = Arc::clone(&self.streams)
            .try_acquire_owned()
            .map_err(|_| overloaded(format!("{} streams are running", self.limits.max_streams)))?;
        Ok(StreamPermit { _stream: stream, _memory: self.reserve(BASE_BYTES + CHUNKS * chunk_bytes)? })
    }

    /// Reserves memory for this many bytes. A response that is larger than all the memory takes all of it; otherwise it
    /// would always be refused.
    pub(super) fn reserve(&self, bytes: usize) -> Result<MemoryPermit, RexError> {
        let units = bytes.div_ceil(UNIT_BYTES).min(self.limits.memory_bytes / UNIT_BYTES);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.memory).try_acquire_many_owned(units);
        memory.map(MemoryPermit).map_err(|_| {
            overloaded(format!(
                "streams and large responses hold all {} bytes of stream_memory_bytes",
                self.limits.memory_bytes
            ))
        })
    }
}

/// The same bytes; they keep `permit` until the last reference to them is dropped, in h2 as well as here.
pub(super) fn bytes_with_permit<P: Send + Sync + 'static>(data: Bytes, permit: Arc<P>) -> Bytes {
    Bytes::from_owner(BytesWithPermit { data, _permit: permit })
}

struct BytesWithPermit<P> {
    data: Bytes,
    _permit: Arc<P>,
}

impl<P> AsRef<[u8]> for BytesWithPermit<P> {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

fn overloaded(problem: String) -> RexError {
    RexError::Overloaded { problem, retry_after: RETRY_AFTER }
}
