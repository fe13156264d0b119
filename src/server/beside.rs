//! A future beside a stream: polled in the stream's own task, and when it ends, so does the stream.
//!
//! While a caller's flow-control window is shut, hyper does not poll the body of the answer, so a body alone cannot notice
//! that nobody reads it. What a handler puts [`Beside`] its stream can: it is polled whatever the window is. No task more
//! is needed, and when the stream ends, what is beside it is dropped.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use hyper::rt::Executor;

type Companion = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A request extension: takes the future to be polled beside the answer's stream. When the future ends first, the stream is
/// reset (RST_STREAM, CANCEL).
#[derive(Clone, Default)]
pub struct Beside(Arc<Mutex<Option<Companion>>>);

impl Beside {
    /// Puts `companion` beside the stream, in place of an earlier one.
    pub fn put(&self, companion: impl Future<Output = ()> + Send + 'static) {
        *self.slot() = Some(Box::pin(companion));
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Companion>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polled after the stream; at an end, the stream is over.
    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self.slot() {
            Some(companion) => companion.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

/// Spawns the streams of one connection.
///
/// hyper calls the service for a request and hands the stream to its executor in one go, so the extension that was made
/// last belongs to the stream that comes next.
#[derive(Clone, Default)]
pub(super) struct Streams(Arc<Mutex<Option<Beside>>>);

impl Streams {
    /// The extension for the request that is being handed to the service.
    pub(super) fn next(&self) -> Beside {
        let beside = Beside::default();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(beside.clone());
        beside
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let beside = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match beside {
            Some(beside) => drop(tokio::spawn(Watched { stream: Box::pin(stream), beside })),
            None => drop(tokio::spawn(stream)),
        }
    }
}

struct Watched<F> {
    stream: Pin<Box<F>>,
    beside: Beside,
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        self.beside.poll(context)
    }
}
