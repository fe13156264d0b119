//! Writes of one turn of a connection, gathered into few system calls.
//!
//! h2 writes and flushes each DATA frame by itself, and callers take frames of 16 KiB unless they say otherwise: a GiB is
//! 65,536 writes, each a walk through the kernel's TCP. Here the frames that one poll of the connection produces are
//! gathered, and go out when the buffer is full or the poll is over. Copying 16 KiB that are in the cache costs a fraction
//! of what the system call does (the README has the measurement). It also frees the registry's chunk as soon as it is
//! framed.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is gathered at most: seven frames of 16 KiB with their heads, which fills two of the kernel's segments of 64 KiB.
const GATHER_BYTES: usize = 7 * (9 + 16 * 1024);

/// What an answer that is no blob needs.
const SMALL_BYTES: usize = 1024;

/// The connection's end of the cork: what hyper writes to.
pub(super) struct Cork<T>(Arc<Mutex<Gathered<T>>>);

/// The owner's end: lets out what was gathered.
pub(super) struct Uncork<T>(Arc<Mutex<Gathered<T>>>);

struct Gathered<T> {
    io: T,
    buffer: Vec<u8>,
    written: usize,
}

/// Puts a cork into `io`.
pub(super) fn cork<T>(io: T) -> (Cork<T>, Uncork<T>) {
    let gathered = Arc::new(Mutex::new(Gathered { io, buffer: Vec::new(), written: 0 }));
    (Cork(Arc::clone(&gathered)), Uncork(gathered))
}

impl<T: AsyncWrite + Unpin> Uncork<T> {
    /// Polls the connection to its end; what each poll gathered goes out after it.
    pub(super) async fn drive<C: Future>(&self, mut connection: Pin<&mut C>) -> C::Output {
        std::future::poll_fn(|context| {
            let outcome = connection.as_mut().poll(context);
            // A failure to write is told to the connection when it writes next, or reads.
            let _ = lock(&self.0).poll_out(context);
            outcome
        })
        .await
    }
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    /// Writes everything out.
    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.buffer.get(self.written..) {
            let written = ready!(Pin::new(&mut self.io).poll_write(context, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        // An idle connection holds no buffer.
        self.buffer = Vec::new();
        self.written = 0;
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn gather(&mut self, slices: &[IoSlice<'_>]) -> usize {
        let before = self.buffer.len();
        if before == 0 {
            let small = slices.iter().map(|slice| slice.len()).sum::<usize>() <= SMALL_BYTES;
            self.buffer.reserve_exact(if small { SMALL_BYTES } else { GATHER_BYTES });
        }
        for slice in slices {
            let room = GATHER_BYTES.saturating_sub(self.buffer.len());
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
        let mut gathered = lock(&self.0);
        if gathered.buffer.len() >= GATHER_BYTES {
            ready!(gathered.poll_out(context))?;
        }
        // Frames larger than the buffer gain nothing from it.
        if gathered.buffer.is_empty() && slices.iter().map(|slice| slice.len()).sum::<usize>() >= GATHER_BYTES
        {
            return Pin::new(&mut gathered.io).poll_write_vectored(context, slices);
        }
        Poll::Ready(Ok(gathered.gather(slices)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Not yet: the poll that this is part of ends with it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = lock(&self.0);
        ready!(gathered.poll_out(context))?;
        Pin::new(&mut gathered.io).poll_shutdown(context)
    }
}

fn lock<T>(gathered: &Mutex<Gathered<T>>) -> MutexGuard<'_, Gathered<T>> {
    gathered.lock().unwrap_or_else(PoisonError::into_inner)
}
