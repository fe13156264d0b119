//! Work on files, off the runtime's threads, with a time limit and a bound on the threads that a hanging disk can hold.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc, time::Duration};

use bytes::Bytes;
use rustix::{
    buffer::spare_capacity,
    io::{Errno, pread},
};
use tokio::sync::Semaphore;

/// The most accesses at the same time. The runtime has 512 threads for such work, which other parts need too.
const MAX_ACCESSES: usize = 32;

/// Runs work on files. Its clones share one bound.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    accesses: Arc<Semaphore>,
    timeout: Duration,
}

impl Disk {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { accesses: Arc::new(Semaphore::new(MAX_ACCESSES)), timeout }
    }

    /// Runs `work` on a thread of its own. After the time limit this is an error, but `work` still runs to its end.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let accesses = Arc::clone(&self.accesses);
        let running = async move {
            let permit = accesses.acquire_owned().await.map_err(io::Error::other)?;
            tokio::task::spawn_blocking(move || {
                let _permit = permit;
                work()
            })
            .await
            .map_err(io::Error::other)?
        };
        tokio::time::timeout(self.timeout, running).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Takes all accesses, as a disk that hangs does.
    #[cfg(test)]
    pub(super) async fn hang(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.accesses.acquire_many(MAX_ACCESSES as u32).await.unwrap_or_else(|_| unreachable!())
    }

    /// Runs `work` after the caller is gone, for cleaning up.
    pub(super) fn run_later(&self, work: impl FnOnce() + Send + 'static) {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(work)),
            Err(_) => work(),
        }
    }
}

/// Reads exactly these bytes of a file, into memory that is not initialized twice.
pub(super) fn read(file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        // A reserved capacity can be larger than what was asked for.
        let at = offset + bytes.len() as u64;
        match pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    Ok(Bytes::from(bytes))
}

/// Writes all bytes at this offset.
pub(super) fn write(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Whether there is no room for more.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
