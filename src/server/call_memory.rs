//! The memory of the calls on a connection: what a request takes from its headers to the last byte of its response.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::{
    error::RexError,
    memory::{MemoryAccount, Reservation, bytes_with_permit},
};

/// What a connection takes without a call on it: the task, hyper's and h2's state, read and write buffers, TLS.
pub(super) const CONNECTION_BYTES: usize = 32 * 1024;

/// What a call takes besides its message and its response: the stream in h2, the task, the handler, a buffer of 8 KiB for the
/// message. Measured: 10,000 calls that wait for a registry take 16 KiB each.
const CALL_BYTES: usize = 16 * 1024;

/// The part of them that is the buffer for the message.
const MESSAGE_BYTES: usize = 8 * 1024;

/// What HTTP/2 counts for a header field besides its name and value (RFC 9113, section 6.5.2), which is also about what an
/// entry of the map takes.
const FIELD_BYTES: usize = 32;

/// The bytes to reserve for a request with these headers.
pub(super) fn of_request(headers: &HeaderMap) -> usize {
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES);
    CALL_BYTES + 2 * fields.sum::<usize>()
}

/// A body that keeps the call's memory reserved, until it is dropped and the last byte that it returned has left h2.
pub(super) struct ReservedBody<B> {
    body: B,
    reservation: Option<Arc<Reservation>>,
}

impl<B> ReservedBody<B> {
    /// `reservation` is `None` for a response that holds next to nothing.
    pub(super) fn new(body: B, reservation: Option<Reservation>) -> Self {
        Self { body, reservation: reservation.map(Arc::new) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ReservedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let Some(reservation) = &self.reservation else { return Poll::Ready(frame) };
        let reserved = |data| bytes_with_permit(data, Arc::clone(reservation));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(reserved))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The memory of a message that arrives. Bytes beyond the first [`MESSAGE_BYTES`] are reserved twice: the generated server collects
/// them in a buffer that grows by doubling.
pub(super) struct MessageMemory {
    received: usize,
    account: MemoryAccount,
    /// `None` for the messages of ordinary callers, which are a few hundred bytes.
    reservation: Option<Reservation>,
}

impl MessageMemory {
    pub(super) fn new(account: MemoryAccount) -> Self {
        Self { received: 0, account, reservation: None }
    }

    /// Counts bytes of the message.
    ///
    /// # Errors
    /// [`RexError::Overloaded`] if there is no memory for them.
    pub(super) fn count(&mut self, bytes: usize) -> Result<(), RexError> {
        self.received = self.received.saturating_add(bytes);
        if self.received <= MESSAGE_BYTES {
            return Ok(());
        }
        match &mut self.reservation {
            Some(reservation) => reservation.grow(2 * bytes),
            reservation => self.account.reserve(2 * bytes).map(|reserved| *reservation = Some(reserved)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use http_body_util::BodyExt as _;

    use super::*;
    use crate::memory::{MemoryBudget, MemoryLimits};

    fn budget(bytes: usize) -> MemoryBudget {
        MemoryBudget::new(MemoryLimits { total: bytes, per_peer: bytes, per_caller: bytes })
    }

    #[test]
    fn a_message_is_reserved_twice_beyond_its_first_bytes_until_it_is_dropped() {
        let budget = budget(1 << 20);
        let mut message = MessageMemory::new(budget.account());
        message.count(MESSAGE_BYTES).unwrap();
        assert_eq!(budget.reserved(), 0, "it is part of what a call takes");
        message.count(100).unwrap();
        message.count(50).unwrap();
        assert_eq!(budget.reserved(), 300);
        drop(message);
        assert_eq!(budget.reserved(), 0);
    }

    #[test]
    fn a_message_is_refused_when_others_hold_all_memory() {
        let budget = budget(4096);
        let _held: Vec<_> = (0..4).map(|_| budget.account().reserve(1024).unwrap()).collect();
        let mut message = MessageMemory::new(budget.account());
        message.count(MESSAGE_BYTES).unwrap();
        assert!(matches!(message.count(1), Err(RexError::Overloaded { .. })));
    }

    #[tokio::test]
    async fn a_call_is_reserved_until_its_last_bytes_are_dropped() {
        let budget = budget(1 << 20);
        let body = http_body_util::Full::new(Bytes::from_static(b"response"));
        let mut body = ReservedBody::new(body, Some(budget.account().reserve(1000).unwrap()));
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        drop(body);
        assert_eq!((&data[..], budget.reserved()), (&b"response"[..], 1000));
        drop(data);
        assert_eq!(budget.reserved(), 0);
    }
}
