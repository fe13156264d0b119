//! New certificates without a restart: the files' contents are polled.
//!
//! Reading them is cheaper than being told: file notifications follow neither the `..data` link which Kubernetes swaps
//! nor network file systems reliably, and four small reads a second cost nothing.

use std::{convert::Infallible, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use super::{Contents, Error, Files};

/// What new connections are served with at present.
#[derive(Clone)]
pub(in crate::server) struct Current(watch::Receiver<Arc<ServerConfig>>);

impl Current {
    /// For one handshake.
    pub(in crate::server) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.borrow()))
    }
}

/// Watches the files.
pub(in crate::server) struct Reloader {
    files: Files,
    seen: Contents,
    current: watch::Sender<Arc<ServerConfig>>,
}

impl Reloader {
    /// Reads the files for the first time.
    ///
    /// # Errors
    ///
    /// When they cannot be served with: at the start there is no last good state to fall back to.
    pub(in crate::server) async fn start(files: Files) -> Result<(Self, Current), Error> {
        let seen = files.read().await?;
        let config = files.config(&seen)?;
        let (current, receiver) = watch::channel(Arc::new(config));
        Ok((Self { files, seen, current }, Current(receiver)))
    }

    /// Looks at the files again and again. New contents that cannot be served with are logged, once, and the last good
    /// ones stay; so a look that catches a pair half replaced does no harm either.
    pub(in crate::server) async fn run(mut self, every: Duration) -> Infallible {
        // `interval` panics on zero.
        let mut looks = interval(every.max(Duration::from_millis(1)));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unreadable = false;
        loop {
            looks.tick().await;
            match self.files.read().await {
                Ok(contents) => {
                    unreadable = false;
                    if contents != self.seen {
                        self.take(contents);
                    }
                }
                Err(error) if !unreadable => {
                    unreadable = true;
                    keep(&error);
                }
                Err(_again) => {}
            }
        }
    }

    fn take(&mut self, contents: Contents) {
        match self.files.config(&contents) {
            Ok(config) => {
                self.current.send_replace(Arc::new(config));
                info!(certificate = %self.files.certificate.display(), "TLS files reloaded");
            }
            Err(error) => keep(&error),
        }
        self.seen = contents;
    }
}

fn keep(error: &Error) {
    let source = std::error::Error::source(error).map(ToString::to_string);
    warn!(%error, source, "new TLS files cannot be used, the last good ones stay");
}
