//! Detects connections whose peer reads nothing. Bytes that wait for the socket have left their stream, so the stream's
//! flow-control window and time limits no longer apply to them.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Fires when writes have waited for longer than a limit and the peer has taken no byte.
pub(super) struct WriteStall {
    limit: Duration,
    /// When the peer stopped reading. `None` while no bytes wait.
    since: Option<Instant>,
    /// Set when a write first waits, and reset only when it fires: on a busy connection, writes wait all the time.
    timer: Option<Pin<Box<Sleep>>>,
}

impl WriteStall {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: None, timer: None }
    }

    /// The peer took a byte, or no byte waits.
    pub(super) fn moved(&mut self) {
        self.since = None;
    }

    /// Called while a write waits; ready when it has waited for too long.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(since + self.limit)));
        while timer.as_mut().poll(context).is_ready() {
            if since.elapsed() >= self.limit {
                return Poll::Ready(());
            }
            timer.as_mut().reset(since + self.limit);
        }
        Poll::Pending
    }
}
