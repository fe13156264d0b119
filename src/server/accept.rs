//! Taking connections off a listener, and going on doing so whatever happens.

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

use super::admission::Refused;

/// The first pause after a failed accept: long enough not to spin, too short to be noticed.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause: a server that has descriptors again is back within a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Refused connections are logged at most this often: a flood of them must not become a flood of lines.
const REFUSALS_LOGGED_EVERY: Duration = Duration::from_secs(10);

/// The next connection. Never fails: an error of the listener (out of descriptors or memory) is logged and waited out,
/// with pauses that double from 10 ms to 1 s, while connections wait in the kernel's queue; an error of the one
/// connection that was to be accepted is skipped without a pause, or peers that hang up early would slow all others.
pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = FIRST_PAUSE;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => debug!(%error, "a connection ended before accept"),
            Err(error) => {
                warn!(%error, pause_ms = pause.as_millis(), "cannot accept connections");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// accept(2) hands over errors that are already pending on the new socket; they say nothing about the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
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

/// Tells the log about refused connections, a line for many.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    unlogged: u64,
    logged: Option<Instant>,
}

impl Refusals {
    /// Counts a refused connection, and logs the count when the last line is long enough ago.
    pub(super) fn note(&mut self, address: SocketAddr, refused: Refused) {
        debug!(%address, ?refused, "connection refused");
        self.unlogged = self.unlogged.saturating_add(1);
        if self.logged.is_none_or(|at| at.elapsed() >= REFUSALS_LOGGED_EVERY) {
            warn!(%address, ?refused, refused_since_last_line = self.unlogged, "connections over a cap are closed");
            self.unlogged = 0;
            self.logged = Some(Instant::now());
        }
    }
}
