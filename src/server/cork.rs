//! Gathers the writes of one poll of a connection into few system calls, as TCP_CORK does in the kernel.
//!
//! h2 writes and flushes each DATA frame separately, and the default maximum frame size is 16 KiB: a GiB takes 65,536
//! writes, each of which runs through the kernel's TCP stack. The cork collects the frames that one poll of the connection
//! produces, and writes them when the buffer is full or the poll has ended. Copying 16 KiB from the cache costs a fraction
//! of a system call (measured: see docs/performance.md). It also frees the registry's chunk as soon as it is framed.
//! Because every write passes through the cork, it also detects a peer that does not read.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::write_stall::WriteStall;

/// The size of the buffer: seven frames of 16 KiB with their headers. Together they fill two kernel segments of 64 KiB.
const BUFFER_BYTES: usize = 7 * (9 + 16 * 1024);

/// Enough for a response that is not a blob.
const SMALL_BUFFER_BYTES: usize = 1024;

/// The connection's end of the cork. hyper writes to it.
pub(super) struct Cork<T>(Arc<Mutex<Corked<T>>>);

/// The owner's end of the cork. It writes the buffer to the socket.
pub(super) struct Uncork<T>(Arc<Mutex<Corked<T>>>);

struct Corked<T> {
    io: T,
    buffer: Vec<u8>,
    written: usize,
    /// Whether bytes still wait for the peer at the end of this poll of the connection.
    waits: bool,
    stall: WriteStall,
}

/// Wraps `io` in a cork. Its writes may wait for at most `write_stall`.
pub(super) fn cork<T>(io: T, write_stall: Duration) -> (Cork<T>, Uncork<T>) {
    let stall = WriteStall::new(write_stall);
    let corked = Arc::new(Mutex::new(Corked { io, buffer: Vec::new(), written: 0, waits: false, stall }));
    (Cork(Arc::clone(&corked)), Uncork(corked))
}

impl<T: AsyncWrite + Unpin> Uncork<T> {
    /// Polls the connection to its end, and writes the buffer after each poll. Returns `None` if the peer read nothing
    /// for too long.
    pub(super) async fn drive<C: Future>(&self, mut connection: Pin<&mut C>) -> Option<C::Output> {
        std::future::poll_fn(|context| {
            lock(&self.0).waits = false;
            let outcome = connection.as_mut().poll(context);
            let mut corked = lock(&self.0);
            // The connection gets a write error at its next write or read.
            corked.waits |= corked.poll_write_all(context).is_pending();
            match outcome {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending => corked.poll_stall(context).map(|()| None),
            }
        })
        .await
    }
}

impl<T: AsyncWrite + Unpin> Corked<T> {
    /// Writes everything out.
    fn poll_write_all(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.buffer.get(self.written..) {
            let written = ready!(Pin::new(&mut self.io).poll_write(context, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            self.stall.moved();
        }
        // An idle connection holds no buffer.
        self.buffer = Vec::new();
        self.written = 0;
        Pin::new(&mut self.io).poll_flush(context)
    }

    /// Ready when bytes have waited for too long.
    fn poll_stall(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.waits {
            return self.stall.poll(context);
        }
        self.stall.moved();
        Poll::Pending
    }

    fn gather(&mut self, slices: &[IoSlice<'_>]) -> usize {
        let before = self.buffer.len();
        if before == 0 {
            let small = slices.iter().map(|slice| slice.len()).sum::<usize>() <= SMALL_BUFFER_BYTES;
            self.buffer.reserve_exact(if small { SMALL_BUFFER_BYTES } else { BUFFER_BYTES });
        }
        for slice in slices {
            let room = BUFFER_BYTES.saturating_sub(self.buffer.len());
            self.buffer.extend_from_slice(slice.get(..room).unwrap_or(slice));
        }
        self.buffer.len() - before
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Cork<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Cork<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut corked = lock(&self.0);
        if corked.buffer.len() >= BUFFER_BYTES {
            ready!(corked.poll_write_all(context))?;
        }
        // Frames larger than the buffer are written directly.
        if corked.buffer.is_empty() && slices.iter().map(|slice| slice.len()).sum::<usize>() >= BUFFER_BYTES {
            let written = Pin::new(&mut corked.io).poll_write_vectored(context, slices);
            match written {
                Poll::Ready(_) => corked.stall.moved(),
                Poll::Pending => corked.waits = true,
            }
            return written;
        }
        Poll::Ready(Ok(corked.gather(slices)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: the buffer is written at the end of the poll that calls this.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut corked = lock(&self.0);
        ready!(corked.poll_write_all(context))?;
        Pin::new(&mut corked.io).poll_shutdown(context)
    }
}

fn lock<T>(corked: &Mutex<Corked<T>>) -> MutexGuard<'_, Corked<T>> {
    corked.lock().unwrap_or_else(PoisonError::into_inner)
}
