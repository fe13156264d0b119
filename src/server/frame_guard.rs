//! Checks the byte stream of an HTTP/2 connection for what hyper does not limit: a client preface that is not followed by
//! a SETTINGS frame, and floods of frames.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{frame_budget::FrameBudget, frames::Scanner, preface::PREFACE};

/// A connection whose preface has been read; hyper reads it again. A read fails when the peer breaks a limit, which
/// closes the connection without GOAWAY: such a peer would ignore it.
pub(super) struct FrameGuard<T> {
    io: T,
    /// The part of the preface that hyper has not read yet.
    preface: &'static [u8],
    /// Runs until the first SETTINGS frame has come.
    settings_timer: Option<Pin<Box<Sleep>>>,
    received: Scanner,
    sent: Scanner,
    budget: FrameBudget,
    /// The budget is used up, by what was read or by what was written.
    over_budget: bool,
}

impl<T> FrameGuard<T> {
    /// Watches `io`; the peer's SETTINGS frame must begin before `settings_deadline`.
    pub(super) fn new(io: T, settings_deadline: Instant) -> Self {
        Self {
            io,
            preface: PREFACE,
            settings_timer: Some(Box::pin(sleep_until(settings_deadline))),
            received: Scanner::default(),
            sent: Scanner::default(),
            budget: FrameBudget::new(Instant::now()),
            over_budget: false,
        }
    }

    fn note_received(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (budget, settings_timer, mut within) = (&mut self.budget, &mut self.settings_timer, true);
        let now = Instant::now();
        self.received.scan(bytes, |frame| {
            if frame.is_settings() {
                *settings_timer = None;
            }
            within &= budget.received(frame, now);
        });
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
