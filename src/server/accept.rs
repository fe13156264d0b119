//! Accepts connections, and keeps accepting after errors.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tracing::{debug, warn};

use super::admission::LimitReached;

/// The first pause after a failed accept: long enough not to spin, too short for a caller to notice.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
/// The longest pause. Once file descriptors are free again, the server accepts within a second.
const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// Refused connections are logged at most this often, so that a flood of connections does not flood the log.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Returns the next connection. It never fails. When the listener fails (no descriptors, no memory), the error is logged
/// and accept is retried after a pause that doubles from 10 ms to 1 s; connections wait in the kernel's queue meanwhile.
/// An error that concerns a single connection is skipped without a pause: otherwise peers that hang up early would slow
/// down all others.
pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = FIRST_BACKOFF;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if concerns_one_connection(&error) => {
                debug!(%error, "a connection ended before accept")
            }
            Err(error) => {
                warn!(%error, pause_ms = pause.as_millis(), "cannot accept connections");
                sleep(pause).await;
                pause = (pause * 2).min(MAX_BACKOFF);
            }
        }
    }
}

/// accept(2) also returns errors that are pending on the new socket. They are not errors of the listener.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::Interrupted
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
    )
}

/// Logs refused connections, many in one line.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    unlogged: u64,
    logged: Option<Instant>,
}

impl RefusalLog {
    /// Counts a refused connection, and logs the count unless a line was logged recently.
    pub(super) fn record(&mut self, address: SocketAddr, refused: LimitReached) {
        debug!(%address, ?refused, "connection refused");
        self.unlogged = self.unlogged.saturating_add(1);
        if self.logged.is_none_or(|at| at.elapsed() >= REFUSAL_LOG_INTERVAL) {
            warn!(%address, ?refused, refused_since_last_line = self.unlogged, "connections are closed: a connection limit is reached");
            self.unlogged = 0;
            self.logged = Some(Instant::now());
        }
    }
}
