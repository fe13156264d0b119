//! Connections whose peer takes nothing: what waits for the socket has left every stream, and no window or stream's limit
//! bounds how long it waits.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Tells when writes have waited for longer than a limit without taking a byte.
pub(super) struct WriteStall {
    limit: Duration,
    /// Since when no byte was taken; `None` while nothing waits.
    since: Option<Instant>,
    /// Set when the first write waits, and then only moved when it fires: a busy connection waits all the time.
    timer: Option<Pin<Box<Sleep>>>,
}

impl WriteStall {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: None, timer: None }
    }

    /// A byte was taken, or there is none to be taken.
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
