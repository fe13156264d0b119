//! The executor that hyper spawns HTTP/2 streams on; it polls each stream together with a [`Watchdog`].
//!
//! hyper does not poll a response's body while the caller's flow-control window is closed, so a body cannot notice that
//! the caller stopped reading. The watchdog is polled in the stream's task whatever the window is. It needs no task of its
//! own, and is dropped with the stream.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use hyper::rt::Executor;

type WatchdogFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A request extension: a handler sets the future that is polled with its stream. When the future completes before the
/// stream does, the stream is reset (RST_STREAM, CANCEL).
#[derive(Clone, Default)]
pub struct Watchdog(Arc<Mutex<Option<WatchdogFuture>>>);

impl Watchdog {
    /// Sets the future, and replaces an earlier one.
    pub fn set(&self, future: impl Future<Output = ()> + Send + 'static) {
        *self.slot() = Some(Box::pin(future));
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<WatchdogFuture>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when the future has completed and the stream must be reset.
    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self.slot() {
            Some(future) => future.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

/// Spawns the streams of one connection.
///
/// hyper calls the service for a request and then at once passes the stream to its executor. So the watchdog that was
/// created last belongs to the next stream.
#[derive(Clone, Default)]
pub(super) struct StreamExecutor(Arc<Mutex<Option<Watchdog>>>);

impl StreamExecutor {
    /// Creates the watchdog for the request that the service is called with.
    pub(super) fn next_watchdog(&self) -> Watchdog {
        let watchdog = Watchdog::default();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(watchdog.clone());
        watchdog
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let watchdog = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match watchdog {
            Some(watchdog) => drop(tokio::spawn(WatchedStream { stream: Box::pin(stream), watchdog })),
            None => drop(tokio::spawn(stream)),
        }
    }
}

struct WatchedStream<F> {
    stream: Pin<Box<F>>,
    watchdog: Watchdog,
}

impl<F: Future<Output = ()>> Future for WatchedStream<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        self.watchdog.poll(context)
    }
}
