//! Checks the byte stream of an HTTP/2 connection for what hyper does not limit: a client preface that is not followed by
//! a SETTINGS frame, header blocks that do not end, and floods of frames.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::{
    frame_budget::FrameBudget,
    frames::{Scanner, kind::CONTINUATION},
    preface::PREFACE,
};

/// A connection whose preface has been read; hyper reads it again. A read fails when the peer breaks a limit, which
/// closes the connection without GOAWAY: such a peer would ignore it.
pub(super) struct FrameGuard<T> {
    io: T,
    /// The part of the preface that hyper has not read yet.
    preface: &'static [u8],
    /// Runs until the first SETTINGS frame has come.
    settings_timer: Option<Pin<Box<Sleep>>>,
    /// Runs while the rest of a header block is waited for; CONTINUATION frames do not extend it. A block that comes in one
    /// read needs no timer.
    header_timer: Option<Pin<Box<Sleep>>>,
    header_timeout: Duration,
    received: Scanner,
    sent: Scanner,
    budget: FrameBudget,
    /// The budget is used up, by what was read or by what was written.
    over_budget: bool,
}

impl<T> FrameGuard<T> {
    /// Watches `io`; the peer's SETTINGS frame must begin before `settings_deadline`, and every header block must end within
    /// `header_timeout`.
    pub(super) fn new(io: T, settings_deadline: Instant, header_timeout: Duration) -> Self {
        Self {
            io,
            preface: PREFACE,
            settings_timer: Some(Box::pin(sleep_until(settings_deadline))),
            header_timer: None,
            header_timeout,
            received: Scanner::default(),
            sent: Scanner::default(),
            budget: FrameBudget::new(Instant::now()),
            over_budget: false,
        }
    }

    fn note_received(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (settings_timer, header_timer) = (&mut self.settings_timer, &mut self.header_timer);
        let (budget, mut within) = (&mut self.budget, true);
        let now = Instant::now();
        self.received.scan(bytes, |frame| {
            if frame.is_settings() {
                *settings_timer = None;
            }
            // Any other frame comes after the end of the header block that was waited for.
            if frame.kind != CONTINUATION {
                *header_timer = None;
            }
            within &= budget.received(frame, now);
        });
        if !self.received.is_in_header_block() {
            self.header_timer = None;
        }
        self.over_budget |= !within;
        self.check_budget()
    }

    fn note_sent(&mut self, bytes: &[u8]) {
        let (budget, mut within) = (&mut self.budget, true);
        self.sent.scan(bytes, |frame| within &= budget.sent(frame));
        self.over_budget |= !within;
    }

    fn check_budget(&self) -> io::Result<()> {
        if self.over_budget { Err(io::Error::other("too many frames for the work done")) } else { Ok(()) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for FrameGuard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.check_budget()?;
        if !this.preface.is_empty() {
            let (now, later) = this.preface.split_at(this.preface.len().min(buffer.remaining()));
            buffer.put_slice(now);
            this.preface = later;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.io).poll_read(cx, buffer) {
            read?;
            let (_, new) = buffer.filled().split_at(before);
            return Poll::Ready(this.note_received(new));
        }
        if let Some(settings_timer) = &mut this.settings_timer {
            ready!(settings_timer.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no SETTINGS frame came")));
        }
        if this.received.is_in_header_block() {
            let timeout = this.header_timeout;
            ready!(this.header_timer.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "a header block did not end")));
        }
        Poll::Pending
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for FrameGuard<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.note_sent(bytes.get(..written).unwrap_or(bytes));
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let (part, _) = slice.split_at(left.min(slice.len()));
            self.note_sent(part);
            left -= part.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);
    const SECOND: Duration = Duration::from_secs(1);
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// An empty header block in one frame, a frame that begins a block, and one that continues it.
    const WHOLE: &[u8] = &[0, 0, 0, 1, 4, 0, 0, 0, 1];
    const FIRST: &[u8] = &[0, 0, 1, 1, 0, 0, 0, 0, 3, 9];
    const MORE: &[u8] = &[0, 0, 1, 9, 0, 0, 0, 0, 3, 9];
    const LAST: &[u8] = &[0, 0, 1, 9, 4, 0, 0, 0, 3, 9];

    /// Sends each piece a second after the one before, and then waits. Returns how long the guard lets the peer do so.
    async fn guard(pieces: Vec<Vec<u8>>) -> Duration {
        let begun = Instant::now();
        let (io, peer) = duplex(1024);
        let send = async |mut peer: DuplexStream| {
            peer.write_all(SETTINGS).await.unwrap();
            for piece in pieces {
                sleep(SECOND).await;
                peer.write_all(&piece).await.unwrap();
            }
            sleep(SECOND * 3600).await;
        };
        let mut guard = FrameGuard::new(io, begun + TIMEOUT, TIMEOUT);
        let read = async { while guard.read(&mut [0; 64]).await.is_ok_and(|bytes| bytes > 0) {} };
        tokio::select! {
            () = read => {}
            () = send(peer) => {}
        }
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn continuation_frames_do_not_extend_the_time_of_a_header_block() {
        let pieces = [vec![FIRST.to_vec()], vec![MORE.to_vec(); 100]].concat();
        assert_eq!(guard(pieces).await.as_secs(), 11);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_of_a_frame_does_not_extend_the_time_of_a_header_block() {
        let head = [0, 0x40, 0, 1, 4, 0, 0, 0, 1].to_vec();
        let pieces = [vec![head], vec![vec![9]; 100]].concat();
        assert_eq!(guard(pieces).await.as_secs(), 11);
    }

    #[tokio::test(start_paused = true)]
    async fn each_header_block_has_the_time_for_itself() {
        let pieces = [FIRST, MORE, LAST, WHOLE, FIRST, MORE, MORE, MORE, LAST];
        assert!(guard(pieces.map(<[u8]>::to_vec).to_vec()).await > SECOND * 3600);
        // Each piece ends one block and begins the next.
        let pieces = [vec![FIRST.to_vec()], vec![[LAST, FIRST].concat(); 30], vec![LAST.to_vec()]].concat();
        assert!(guard(pieces).await > SECOND * 3600);
    }

    #[tokio::test]
    async fn a_header_block_that_comes_in_one_read_needs_no_timer() {
        let (io, mut peer) = duplex(1024);
        let mut guard = FrameGuard::new(io, Instant::now() + TIMEOUT, TIMEOUT);
        guard.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
        peer.write_all(&[SETTINGS, WHOLE, FIRST, LAST].concat()).await.unwrap();
        assert_eq!(guard.read(&mut [0; 64]).await.unwrap(), 9 + 9 + 10 + 10);
        let read = std::future::poll_fn(|cx| {
            Poll::Ready(Pin::new(&mut guard).poll_read(cx, &mut ReadBuf::new(&mut [0; 64])))
        });
        assert!(read.await.is_pending());
        assert!(guard.header_timer.is_none());
    }
}
