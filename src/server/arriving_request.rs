//! Limits the time in which a request's message arrives, and the memory that it takes.
//!
//! The generated server calls a handler when the message is complete and the caller has ended its side of the stream.
//! Until then the call holds its headers and what has come of the message.

use std::{
    error::Error,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tracing::debug;

use super::{call_memory::MessageMemory, status};
use crate::error::RexError;

/// How long a caller may wait between two messages of a stream. A client of server reflection that finds its stream
/// ended opens another one, as grpcurl's does (`grpcreflect`).
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The body of a request. It fails with UNAVAILABLE when it does not end in time, or when there is no memory for it.
///
/// The time runs from the first wait for the caller and bounds the whole body: bytes that trickle in do not extend it.
/// Most messages come together with their headers, and those cost no timer.
pub(super) struct ArrivingRequest<B> {
    /// `None` after the failure.
    body: Option<B>,
    /// For the log: no handler is called when the time is over.
    peer: SocketAddr,
    timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// For a stream of messages, each of which has the time for itself.
    messages: Option<Messages>,
    /// For one message, which is collected before a handler is called.
    memory: Option<MessageMemory>,
}

impl<B> ArrivingRequest<B> {
    /// The body of a call with one message, which must end within `timeout`.
    pub(super) fn with_one_message(body: B, peer: SocketAddr, timeout: Duration) -> Self {
        Self { body: Some(body), peer, timeout, timer: None, messages: None, memory: None }
    }

    /// The same body, whose bytes are counted.
    pub(super) fn counted(self, memory: MessageMemory) -> Self {
        Self { memory: Some(memory), ..self }
    }

    /// The body of a call with many messages: the first must be complete within `timeout`, and each later one within
    /// `timeout` of its beginning. Between them the caller has a minute, or `timeout` if that is longer.
    pub(super) fn with_messages(body: B, peer: SocketAddr, timeout: Duration) -> Self {
        Self { messages: Some(Messages::default()), ..Self::with_one_message(body, peer, timeout) }
    }

    fn note_data(&mut self, data: &[u8]) -> Result<(), RexError> {
        if let Some(messages) = &mut self.messages {
            let begins = messages.is_between_two();
            if messages.scan(data) || begins {
                self.timer = None;
            }
        }
        self.memory.as_mut().map_or(Ok(()), |memory| memory.count(data.len()))
    }

    fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let pauses = self.messages.as_ref().is_some_and(Messages::is_between_two);
        let timeout = if pauses { self.timeout.max(MAX_PAUSE) } else { self.timeout };
        self.timer.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(context)
    }
}

impl<B> Body for ArrivingRequest<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            if let Some(Ok(frame)) = &frame
                && let Some(data) = frame.data_ref()
                && let Err(refused) = self.note_data(data)
            {
                self.body = None;
                return Poll::Ready(Some(Err(Status::from(refused).into())));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(self.poll_timeout(context));
        debug!(address = %self.peer, "a request did not arrive in time");
        // Releases what has come; the caller gets the status.
        self.body = None;
        Poll::Ready(Some(Err(timed_out(self.timeout).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(B::size_hint).unwrap_or_default()
    }
}

fn timed_out(timeout: Duration) -> Status {
    status::unavailable("REQUEST_TIMEOUT", format!("the request was not complete within {timeout:?}"))
}

/// Finds the ends of the messages in a body (gRPC over HTTP/2, "Length-Prefixed-Message").
#[derive(Default)]
struct Messages {
    prefix: [u8; Self::PREFIX_LEN],
    filled: usize,
    message_left: usize,
    /// A message is complete.
    any_complete: bool,
}

impl Messages {
    /// A byte that tells whether the message is compressed, and its length.
    const PREFIX_LEN: usize = 5;

    /// Whether a message ends within `bytes`.
    fn scan(&mut self, mut bytes: &[u8]) -> bool {
        let mut ends = false;
        while !bytes.is_empty() {
            let (prefix, rest) = if self.message_left == 0 {
                bytes.split_at(bytes.len().min(Self::PREFIX_LEN - self.filled))
            } else {
                bytes.split_at(0)
            };
            for (slot, byte) in self.prefix.iter_mut().skip(self.filled).zip(prefix) {
                *slot = *byte;
            }
            self.filled += prefix.len();
            if self.filled == Self::PREFIX_LEN {
                let [_, length @ ..] = self.prefix;
                self.message_left = u32::from_be_bytes(length) as usize;
                self.filled = 0;
                ends |= self.message_left == 0;
            }
            let skipped = self.message_left.min(rest.len());
            self.message_left -= skipped;
            ends |= skipped > 0 && self.message_left == 0;
            (_, bytes) = rest.split_at(skipped);
        }
        self.any_complete |= ends;
        ends
    }

    /// Whether the last byte was the end of a message.
    fn is_between_two(&self) -> bool {
        self.any_complete && self.filled == 0 && self.message_left == 0
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::time::Instant;

    use super::*;
    use crate::memory::{MemoryBudget, MemoryLimits};

    const TIMEOUT: Duration = Duration::from_secs(10);
    const SECOND: Duration = Duration::from_secs(1);
    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    /// A body whose pieces come after these pauses, and which then stays open.
    fn open_body(
        pieces: impl IntoIterator<Item = (Duration, &'static [u8])>,
    ) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let pieces: Vec<_> = pieces.into_iter().collect();
        let frames = stream::iter(pieces).then(|(pause, piece)| async move {
            sleep(pause).await;
            Ok(Frame::data(Bytes::from_static(piece)))
        });
        StreamBody::new(Box::pin(frames.chain(stream::pending())))
    }

    /// Reads to the error, and returns it with the number of bytes that came before and the time of it.
    async fn read<B>(mut request: ArrivingRequest<B>) -> (usize, Duration, Status)
    where
        B: Body<Data = Bytes, Error = Infallible> + Unpin,
    {
        let (begun, mut bytes) = (Instant::now(), 0);
        loop {
            match request.frame().await.unwrap() {
                Ok(frame) => bytes += frame.into_data().unwrap().len(),
                Err(error) => {
                    assert!(request.is_end_stream() && request.frame().await.is_none());
                    return (bytes, begun.elapsed(), *error.downcast::<Status>().unwrap());
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_trickle_in_do_not_extend_the_time() {
        let pieces = std::iter::repeat_n((SECOND, &b"x"[..]), 100);
        let (bytes, time, status) =
            read(ArrivingRequest::with_one_message(open_body(pieces), PEER, TIMEOUT)).await;
        assert!((9..=10).contains(&bytes), "{bytes}");
        assert!((TIMEOUT..TIMEOUT + SECOND).contains(&time), "{time:?}");
        assert_eq!(status.code(), tonic::Code::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_for_which_there_is_no_memory_fails_at_once() {
        let budget = MemoryBudget::new(MemoryLimits { total: 4, per_peer: 4, per_caller: 4 });
        let _held: Vec<_> = (0..4).map(|_| budget.account().reserve(1).unwrap()).collect();
        let body = open_body([(Duration::ZERO, &[0; 10_000][..])]);
        let request = ArrivingRequest::with_one_message(body, PEER, TIMEOUT);
        let (bytes, time, status) = read(request.counted(MessageMemory::new(budget.account()))).await;
        assert_eq!((bytes, time), (0, Duration::ZERO));
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert!(status.message().contains("all of their 4 bytes of memory"), "{status:?}");
    }

    #[tokio::test]
    async fn a_body_that_is_there_needs_no_timer() {
        let body = http_body_util::Full::new(Bytes::from_static(b"message"));
        let mut request = ArrivingRequest::with_one_message(body, PEER, TIMEOUT);
        while let Some(frame) = request.frame().await {
            frame.unwrap();
            assert!(request.timer.is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_may_pause_between_messages_and_not_within_one() {
        let pieces: [(Duration, &[u8]); 5] = [
            (SECOND * 9, &[0, 0, 0, 0, 2, 1, 1]),
            (SECOND * 59, &[0, 0, 0]),
            (SECOND * 9, &[0, 1, 7, 0, 0, 0, 0, 0]),
            (SECOND * 59, &[0, 0, 0, 0, 2, 1]),
            (SECOND * 11, &[1]),
        ];
        let (bytes, time, _) = read(ArrivingRequest::with_messages(open_body(pieces), PEER, TIMEOUT)).await;
        assert_eq!(bytes, 7 + 3 + 8 + 6);
        let limit = SECOND * (9 + 59 + 9 + 59 + 10);
        assert!((limit..limit + SECOND).contains(&time), "{time:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_may_not_pause_for_ever() {
        for (timeout, pause) in [(TIMEOUT, MAX_PAUSE), (MAX_PAUSE * 2, MAX_PAUSE * 2)] {
            let body = open_body([(Duration::ZERO, &[0; 5][..])]);
            let (bytes, time, _) = read(ArrivingRequest::with_messages(body, PEER, timeout)).await;
            assert_eq!(bytes, 5);
            assert!((pause..pause + SECOND).contains(&time), "{time:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_must_begin_in_time() {
        let (bytes, time, _) = read(ArrivingRequest::with_messages(open_body([]), PEER, TIMEOUT)).await;
        assert_eq!(bytes, 0);
        assert!((TIMEOUT..TIMEOUT + SECOND).contains(&time), "{time:?}");
    }

    #[test]
    fn the_ends_of_messages_are_found_however_the_bytes_are_cut() {
        let three = [0, 0, 0, 0, 2, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9];
        for piece in 1..=three.len() {
            let (mut messages, mut at, mut ends) = (Messages::default(), 0, Vec::new());
            for bytes in three.chunks(piece) {
                at += bytes.len();
                if messages.scan(bytes) {
                    ends.push(at);
                }
                assert_eq!(messages.is_between_two(), [7, 12, 18].contains(&at), "{at} in pieces of {piece}");
            }
            let mut expected: Vec<_> =
                [7, 12, 18_usize].map(|end| (end.div_ceil(piece) * piece).min(three.len())).into();
            expected.dedup();
            assert_eq!(ends, expected, "in pieces of {piece}");
        }
    }
}
