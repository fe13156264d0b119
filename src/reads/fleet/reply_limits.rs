//! Limits on what an engine may send.
//!
//! The parser of the `redis` crate reads replies of any size: a reply that declares 500 GiB and begins to send them fills
//! the memory, and one that nobody asked for is read and thrown away, for ever. So the stream below the parser checks the
//! frames of RESP2 (Redis serialization protocol, version 2) as they pass, and ends the connection at the first violation.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes of a value: a document of 4 MiB and its header.
pub(super) const MAX_VALUE: usize = 4 * 1024 * 1024 + 64;

/// The most bytes of a line. Errors of scripts quote the script's line.
const MAX_LINE: usize = 4096;

/// The most elements of a reply, nested ones included: a cluster's 16,384 slots in ranges of one, with a node for each.
const MAX_ELEMENTS: u64 = 131_072;

/// The most bytes of a reply.
const MAX_REPLY: usize = MAX_VALUE + 4 * 1024 * 1024;

/// The deepest nesting. `CLUSTER SLOTS` has four levels.
const MAX_DEPTH: usize = 6;

/// The most replies that may be owed at once.
const MAX_OWED: u64 = 100_000;

/// How many replies the engine owes. Shared by the stream, and by those who send commands.
#[derive(Debug, Clone, Default)]
pub(super) struct OwedReplies(Arc<AtomicU64>);

impl OwedReplies {
    /// Counts a command that is about to be sent.
    pub(super) fn add(&self) {
        let _ = self.0.try_update(Relaxed, Relaxed, |owed| Some((owed + 1).min(MAX_OWED)));
    }

    fn take(&self) -> bool {
        self.0.try_update(Relaxed, Relaxed, |owed| owed.checked_sub(1)).is_ok()
    }
}

/// A stream whose replies are checked.
#[derive(Debug)]
pub(super) struct LimitedStream<S> {
    stream: S,
    frames: Frames,
}

impl<S> LimitedStream<S> {
    pub(super) fn new(stream: S, owed: OwedReplies) -> Self {
        Self { stream, frames: Frames::new(owed) }
    }
}

/// Follows the frames of RESP2.
#[derive(Debug)]
struct Frames {
    owed: OwedReplies,
    next: Next,
    /// The elements that the arrays around the next element still have.
    open: Vec<u64>,
    /// Elements of the arrays of the current reply, and its bytes. Both count when they are declared.
    elements: u64,
    bytes: usize,
}

#[derive(Debug)]
enum Next {
    /// The first byte of an element.
    Type,
    /// The rest of a line, which ends with CR LF.
    Line { kind: u8, text: Vec<u8> },
    /// The rest of a value, CR LF included.
    Value { left: usize },
}

impl Frames {
    fn new(owed: OwedReplies) -> Self {
        Self { owed, next: Next::Type, open: Vec::new(), elements: 0, bytes: 0 }
    }

    /// Follows these bytes. The error says which limit they break.
    fn read(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.next {
                Next::Type => {
                    if !b"+-:$*".contains(first) {
                        return Err("a reply that is not RESP2");
                    }
                    self.count_bytes(1)?;
                    self.next = Next::Line { kind: *first, text: Vec::new() };
                    bytes = rest;
                }
                Next::Line { kind, text } => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
                    if text.len() + line.len() > MAX_LINE {
                        return Err("a line of more than 4 KiB");
                    }
                    text.extend_from_slice(line);
                    bytes = rest;
                    if let Some(line) = text.strip_suffix(b"\r\n") {
                        let after = after_line(*kind, line)?;
                        let length = text.len();
                        self.count_bytes(length)?;
                        self.advance(after)?;
                    }
                }
                Next::Value { left } => {
                    let taken = bytes.len().min(*left);
                    bytes = bytes.get(taken..).unwrap_or_default();
                    *left -= taken;
                    if *left == 0 {
                        self.end_element()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn count_bytes(&mut self, count: usize) -> Result<(), &'static str> {
        self.bytes += count;
        if self.bytes > MAX_REPLY { Err("a reply of more than 8 MiB") } else { Ok(()) }
    }

    fn advance(&mut self, after: After) -> Result<(), &'static str> {
        match after {
            After::End | After::Array(0) => self.end_element(),
            After::Value(length) => {
                self.count_bytes(length)?;
                self.next = Next::Value { left: length + 2 };
                Ok(())
            }
            After::Array(count) => {
                self.elements += count;
                if self.elements > MAX_ELEMENTS || self.open.len() >= MAX_DEPTH {
                    return Err("a reply of too many or too deeply nested elements");
                }
                self.open.push(count);
                self.next = Next::Type;
                Ok(())
            }
        }
    }

    /// An element has ended, and with it each array whose last element it was.
    fn end_element(&mut self) -> Result<(), &'static str> {
        self.next = Next::Type;
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return Ok(());
            }
            self.open.pop();
        }
        (self.elements, self.bytes) = (0, 0);
        if self.owed.take() { Ok(()) } else { Err("a reply that nobody asked for") }
    }
}

/// What follows a line.
enum After {
    End,
    Value(usize),
    Array(u64),
}

fn after_line(kind: u8, line: &[u8]) -> Result<After, &'static str> {
    if !b"$*:".contains(&kind) {
        return Ok(After::End);
    }
    let number = str::from_utf8(line).ok().and_then(|line| line.parse::<i64>().ok());
    match (kind, number.ok_or("a length that is not a number")?) {
        (b':', _) | (_, -1) => Ok(After::End),
        (b'$', length) => match usize::try_from(length) {
            Ok(length) if length <= MAX_VALUE => Ok(After::Value(length)),
            _ => Err("a value of more than 4 MiB"),
        },
        (_, count) => match u64::try_from(count) {
            Ok(count) if count <= MAX_ELEMENTS => Ok(After::Array(count)),
            _ => Err("an array of too many elements"),
        },
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LimitedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        // The crate drops a connection after an error of this kind; it tries again after one of another kind.
        let broken = |problem| io::Error::new(io::ErrorKind::ConnectionAborted, problem);
        Poll::Ready(self.frames.read(read).map_err(broken))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LimitedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "reply_limits_tests.rs"]
mod tests;
