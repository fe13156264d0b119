//! Limits what a connection may ask for while nobody known calls on it.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio_util::sync::CancellationToken;

/// A request extension, one for each connection: the service that identifies callers reports here.
///
/// After 16 requests in a row whose caller is unknown, the connection is sent GOAWAY. Its running calls go on, and later
/// requests on it are skipped. A proxy that forwards many callers on one connection opens a new one.
#[derive(Clone, Debug, Default)]
pub struct UnknownCallers(Arc<Counter>);

#[derive(Debug, Default)]
struct Counter {
    in_a_row: AtomicU32,
    limit_reached: CancellationToken,
}

impl UnknownCallers {
    const LIMIT: u32 = 16;

    /// A request was refused, because its caller is unknown.
    pub fn refused(&self) {
        let before = self.0.in_a_row.fetch_add(1, Ordering::Relaxed);
        if before.saturating_add(1) >= Self::LIMIT {
            self.0.limit_reached.cancel();
        }
    }

    /// A request has a known caller.
    pub fn identified(&self) {
        self.0.in_a_row.store(0, Ordering::Relaxed);
    }

    /// Waits until the connection must be closed.
    pub(super) async fn limit_reached(&self) {
        self.0.limit_reached.cancelled().await;
    }
}
