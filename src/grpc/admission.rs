//! Limits on concurrent blob streams, and on their memory. A refused caller retries; an overloaded service would fail all
//! callers. A stream over the limits is refused before any request is sent to a registry.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    error::RexError,
    memory::{MemoryAccount, MemoryBudget, Reservation},
};

/// Memory that a stream uses besides its chunks. hyper's buffer for the registry's connection grows to 408 KiB when the registry is
/// faster than the caller; the rest is h2's and the connections' buffers and what the allocator keeps. Measured: 500 callers that
/// read 100 KiB/s each take 890 KiB a stream. One that reads nothing takes 160 KiB, because it loses the registry's connection.
const BASE_BYTES: usize = 768 * 1024;

/// Chunks that a stream holds while its caller does not read: one in h2, one waiting.
const CHUNKS: usize = 2;

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Limits over all calls of the service.
#[derive(Debug, Clone)]
pub struct StreamLimits {
    /// The most streams at once.
    pub max_streams: usize,
    /// The memory that streams, responses and what is read for them may hold; a stream with default chunks is counted with
    /// 896 KiB.
    pub memory: MemoryBudget,
    /// How long a caller may read nothing before its stream or its response is reset.
    pub write_stall: Duration,
}

/// Grants permits.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    streams: Arc<Semaphore>,
    limits: StreamLimits,
}

/// Admits one stream. Held until the last of its bytes has left h2.
#[derive(Debug)]
pub(super) struct StreamPermit {
    _stream: OwnedSemaphorePermit,
    _memory: Reservation,
}

impl Admission {
    pub(super) fn new(limits: StreamLimits) -> Self {
        let streams = Arc::new(Semaphore::new(limits.max_streams.min(Semaphore::MAX_PERMITS)));
        Self { streams, limits }
    }

    /// How long a caller may read nothing.
    pub(super) fn write_stall(&self) -> Duration {
        self.limits.write_stall
    }

    /// The account of a call that did not come through the listener, which gives each peer its own.
    pub(super) fn account(&self) -> MemoryAccount {
        self.limits.memory.account()
    }

    /// Admits a stream with chunks of this size.
    pub(super) fn admit_stream(
        &self,
        chunk_bytes: usize,
        memory: &MemoryAccount,
    ) -> Result<StreamPermit, RexError> {
        let stream = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| RexError::Overloaded {
            problem: format!("{} streams are running", self.limits.max_streams),
            retry_after: RETRY_AFTER,
        })?;
        Ok(StreamPermit { _stream: stream, _memory: memory.reserve(BASE_BYTES + CHUNKS * chunk_bytes)? })
    }
}
