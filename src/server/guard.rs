//! The byte stream under an HTTP/2 connection, watched for what hyper does not bound: a client preface without its
//! SETTINGS frame, and floods of control frames.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    frames::{Allowance, Scanner},
    preface::PREFACE,
};

/// A connection whose preface has been read; hyper gets to read it again. Reading fails when the peer breaks a limit,
/// which closes the connection without a GOAWAY: the peer is not one that would listen to it.
pub(super) struct Guard<T> {
    io: T,
    /// What of the preface hyper has not yet read.
    preface: &'static [u8],
    /// Runs until the first SETTINGS frame has come.
    greeting: Option<Pin<Box<Sleep>>>,
    received: Scanner,
    sent: Scanner,
    allowance: Allowance,
}

impl<T> Guard<T> {
    /// Watches `io`; the peer's SETTINGS frame must begin before `greeted_by`.
    pub(super) fn new(io: T, greeted_by: Instant) -> Self {
        Self {
            io,
            preface: PREFACE,
            greeting: Some(Box::pin(sleep_until(greeted_by))),
            received: Scanner::default(),
            sent: Scanner::default(),
            allowance: Allowance::new(Instant::now()),
        }
    }

    fn note_received(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (allowance, greeting, mut within) = (&mut self.allowance, &mut self.greeting, true);
        self.received.scan(bytes, |frame| {
            if frame.is_settings() {
                *greeting = None;
            }
            if frame.is_control() {
                within &= allowance.spend(Instant::now());
            }
        });
        if within { Ok(()) } else { Err(io::Error::other("too many PING, SETTINGS or RST_STREAM frames")) }
    }

    fn note_sent(&mut self, bytes: &[u8]) {
        let allowance = &mut self.allowance;
        self.sent.scan(bytes, |frame| {
            if frame.is_content() {
                allowance.earn();
            }
        });
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
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
        if let Some(greeting) = &mut this.greeting {
            ready!(greeting.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no SETTINGS frame came")));
        }
        Poll::Pending
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guard<T> {
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
