//! Sends a message (a manifest, a page of a list) to callers that may not read it.
//!
//! The memory of every response is reserved until its last byte has left h2, and a response of which nothing is taken within
//! the limit is reset, also after the call's deadline.
//!
//! As soon as the caller's flow-control window is open by one byte, hyper passes a whole frame of a body to h2, and drops
//! the stream after the last one. A manifest of 4 MiB in one frame would stay in h2 for as long as the caller does not read,
//! unnoticed. So a large response is sent in pieces: h2 gets the next piece when the window has taken the last one.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use prost::Message;
use tokio::time::sleep;
use tonic::{Response, Status, body::Body};

use super::{deadline::Deadline, wire};
use crate::{
    error::RexError,
    memory::{MemoryAccount, Reservation, bytes_with_permit},
    server::Watchdog,
};

/// The size of a piece: HTTP/2's default maximum frame size (RFC 9113, section 4.2), and no more than the smallest send
/// buffer. A response that fits into one piece is sent in one.
const PIECE_BYTES: usize = 16 * 1024;

/// The bytes a second that a caller must read on average. Otherwise a caller that reads one piece per `limit` could hold
/// 4 MiB for hours, and a few such callers all the memory.
const MIN_BYTES_PER_SECOND: u64 = 32 * 1024;

/// How often a response is checked within the limit.
const STALL_CHECKS: u32 = 4;

/// A response that is being sent. Its memory is given back with the last of its bytes.
#[derive(Debug)]
pub(super) struct UnaryResponse {
    pieces_taken: AtomicU64,
    _memory: Reservation,
}

/// The response extension that passes the encoded message to [`replace_body`].
#[derive(Clone)]
struct Encoded {
    message: Bytes,
    tracker: Arc<UnaryResponse>,
}

/// Makes the response with this message: reserves its memory, and sets the watchdog of its stream.
///
/// The message is encoded here, not by the generated code when the body is polled: a list of 1,000 tags takes 15 KiB as bytes
/// and four times as much as strings, for as long as the caller does not read. [`replace_body`] sends the bytes.
///
/// # Errors
/// [`RexError::Overloaded`] if there is no memory for it.
pub(super) fn respond<A: Message + Default>(
    message: A,
    watchdog: Option<&Watchdog>,
    memory: &MemoryAccount,
    write_stall: Duration,
    deadline: Deadline,
) -> Result<Response<A>, RexError> {
    let memory = memory.reserve(message.encoded_len())?;
    Ok(of(wire::encode(&message), memory, watchdog, write_stall, deadline))
}

/// Like [`respond`], with a message that is encoded already.
///
/// # Errors
/// [`RexError::Overloaded`] if there is no memory for it.
pub(super) fn respond_encoded<A: Default>(
    message: Bytes,
    watchdog: Option<&Watchdog>,
    memory: &MemoryAccount,
    write_stall: Duration,
    deadline: Deadline,
) -> Result<Response<A>, RexError> {
    let memory = memory.reserve(message.len())?;
    Ok(of(message, memory, watchdog, write_stall, deadline))
}

fn of<A: Default>(
    message: Bytes,
    memory: Reservation,
    watchdog: Option<&Watchdog>,
    write_stall: Duration,
    deadline: Deadline,
) -> Response<A> {
    let tracker = Arc::new(UnaryResponse { pieces_taken: AtomicU64::new(0), _memory: memory });
    if let Some(watchdog) = watchdog {
        watchdog.set(watch(Arc::clone(&tracker), message.len(), write_stall, deadline));
    }
    let mut response = Response::new(A::default());
    response.extensions_mut().insert(Encoded { message, tracker });
    response
}

/// The watchdog of a response. Completes when the response must be reset.
async fn watch(response: Arc<UnaryResponse>, bytes: usize, limit: Duration, deadline: Deadline) {
    let in_all = limit.saturating_add(Duration::from_secs(bytes as u64 / MIN_BYTES_PER_SECOND));
    tokio::select! {
        () = sleep(in_all) => {
            tracing::info!(?in_all, "the response is reset: its caller reads too slowly");
        }
        () = response.stalled(limit) => {
            tracing::info!(?limit, "the response is reset: its caller reads nothing");
        }
        () = deadline.passed() => {}
    }
}

impl UnaryResponse {
    async fn stalled(&self, limit: Duration) {
        let (mut seen, mut still) = (0, 0);
        while still < STALL_CHECKS {
            sleep(limit / STALL_CHECKS).await;
            let taken = self.pieces_taken.load(Ordering::Relaxed);
            still = if taken == seen { still + 1 } else { 0 };
            seen = taken;
        }
    }
}

/// Replaces the body of a response that [`respond`] made. Other responses are unchanged.
pub(super) fn replace_body(mut response: http::Response<Body>) -> http::Response<Body> {
    match response.extensions_mut().remove::<Encoded>() {
        None => response,
        Some(encoded) => response.map(|_| Body::new(Pieces::new(encoded))),
    }
}

/// A body that returns its message in pieces, and then the trailers of a call that succeeded.
struct Pieces {
    /// The bytes that were not returned yet. `None` after the trailers.
    rest: Option<Bytes>,
    /// Whether the message is larger than a piece.
    is_large: bool,
    tracker: Arc<UnaryResponse>,
}

impl Pieces {
    fn new(Encoded { message, tracker }: Encoded) -> Self {
        let is_large = message.len() > PIECE_BYTES;
        Self { rest: Some(bytes_with_permit(message, Arc::clone(&tracker))), is_large, tracker }
    }

    /// The last byte of a large response is a piece of its own: hyper passes it on only when the window has taken everything
    /// before it. So the stream and its watchdog live until the caller's window has taken all other bytes. Bytes that then
    /// still wait for the socket are bounded by the connection's limits.
    fn piece(rest: &mut Bytes, is_large: bool) -> Bytes {
        let size = match rest.len() {
            bytes if bytes == 1 || !is_large => bytes,
            bytes => PIECE_BYTES.min(bytes - 1),
        };
        rest.split_to(size)
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let is_large = self.is_large;
        match &mut self.rest {
            None => Poll::Ready(None),
            Some(rest) if rest.is_empty() => {
                self.rest = None;
                let mut trailers = HeaderMap::new();
                Poll::Ready(Some(
                    Status::ok("").add_header(&mut trailers).map(|()| Frame::trailers(trailers)),
                ))
            }
            Some(rest) => {
                let piece = Self::piece(rest, is_large);
                self.tracker.pieces_taken.fetch_add(1, Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use http_body::Body as _;
    use tonic::metadata::MetadataMap;

    use super::*;
    use crate::memory::{MemoryBudget, MemoryLimits};

    fn budget() -> MemoryBudget {
        MemoryBudget::new(MemoryLimits { total: 1 << 30, per_peer: 1 << 30, per_caller: 1 << 30 })
    }

    fn response(bytes: usize, memory: &MemoryAccount) -> Arc<UnaryResponse> {
        Arc::new(UnaryResponse { pieces_taken: AtomicU64::new(0), _memory: memory.reserve(bytes).unwrap() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_reads_too_slowly_is_reset() {
        let response = response(4 << 20, &budget().account());
        let limit = Duration::from_secs(60);
        let took = tokio::time::Instant::now();
        let watching =
            watch(Arc::clone(&response), 4 << 20, limit, Deadline::from_metadata(&MetadataMap::new()));
        let trickle = async {
            loop {
                sleep(limit / 5).await;
                response.pieces_taken.fetch_add(1, Ordering::Relaxed);
            }
        };
        tokio::select! {
            () = watching => {}
            () = trickle => {}
        }
        assert_eq!(took.elapsed().as_secs(), 60 + 128);
    }

    #[tokio::test]
    async fn the_memory_is_free_when_the_last_piece_is_gone_from_h2() {
        let memory = budget();
        let response = response(64 << 10, &memory.account());
        let message = Bytes::from("x".repeat(64 << 10));
        let mut pieces = Pieces::new(Encoded { message, tracker: response });
        let frame = std::future::poll_fn(|context| Pin::new(&mut pieces).poll_frame(context)).await;
        let piece = frame.unwrap().unwrap().into_data().unwrap();
        assert_eq!(piece.len(), PIECE_BYTES);
        drop(pieces);
        assert_eq!(memory.reserved(), 64 << 10, "a piece keeps the memory of the whole response reserved");
        drop(piece);
        assert_eq!(memory.reserved(), 0);
    }
}
