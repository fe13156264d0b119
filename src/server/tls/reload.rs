//! Reloads the TLS files without a restart, by reading them at an interval.
//!
//! File notifications are not reliable: they miss the `..data` link that Kubernetes replaces, and changes on network file
//! systems. Reading four small files each second costs almost nothing.

use std::{convert::Infallible, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use super::files::{Contents, Error, Files};

/// The TLS configuration for new connections.
#[derive(Clone)]
pub(in crate::server) struct Current(watch::Receiver<Arc<ServerConfig>>);

impl Current {
    /// The acceptor for one handshake.
    pub(in crate::server) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.borrow()))
    }
}

/// Watches the files.
pub(in crate::server) struct Reloader {
    files: Files,
    seen: Contents,
    /// New contents that were read once.
    unsettled: Option<Contents>,
    current: watch::Sender<Arc<ServerConfig>>,
}

impl Reloader {
    /// Reads the files for the first time.
    ///
    /// # Errors
    ///
    /// If the files cannot be used. At the start there are no earlier files to fall back to.
    pub(in crate::server) async fn start(files: Files) -> Result<(Self, Current), Error> {
        let seen = files.read().await?;
        let config = files.config(&seen)?;
        let (current, receiver) = watch::channel(Arc::new(config));
        Ok((Self { files, seen, unsettled: None, current }, Current(receiver)))
    }

    /// Reads the files at an interval. New contents that cannot be used are logged once, and the last valid ones stay in
    /// use.
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
                    self.notice(contents);
                }
                Err(error) if !unreadable => {
                    unreadable = true;
                    keep(&error);
                }
                Err(_again) => {}
            }
        }
    }

    /// Accepts new contents after two reads in a row have returned the same. One read may return the new certificate with
    /// the old key, or a file that is only partly rewritten. The start of the old certificate with the rest of the new one
    /// can be well-formed and match the new key, but every caller would reject its signature.
    fn notice(&mut self, contents: Contents) {
        if contents == self.seen {
            self.unsettled = None;
        } else if self.unsettled.as_ref() == Some(&contents) {
            self.unsettled = None;
            self.take(contents);
        } else {
            self.unsettled = Some(contents);
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
    warn!(%error, source, "new TLS files cannot be used; the last valid ones stay in use");
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn contents() -> Contents {
        let issued = rcgen::generate_simple_self_signed(["rexd.test".to_owned()]).unwrap();
        Contents {
            certificate: issued.cert.pem().into_bytes(),
            key: issued.signing_key.serialize_pem().into_bytes(),
            client_ca: None,
        }
    }

    #[tokio::test]
    async fn contents_are_taken_once_they_stay_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name| directory.path().join(name);
        let files = Files { certificate: file("tls.crt"), key: file("tls.key"), client_ca: None };
        let old = contents();
        std::fs::write(&files.certificate, &old.certificate).unwrap();
        std::fs::write(&files.key, &old.key).unwrap();
        let (mut reloader, current) = Reloader::start(files).await.unwrap();
        let served = || Arc::clone(&current.0.borrow());
        let first = served();

        let [rewriting, new] = [contents(), contents()];
        let again = |of: &Contents| Contents {
            certificate: of.certificate.clone(),
            key: of.key.clone(),
            client_ca: None,
        };
        reloader.notice(rewriting);
        reloader.notice(again(&new));
        assert!(Arc::ptr_eq(&first, &served()), "no new contents were read twice");
        reloader.notice(again(&new));
        let second = served();
        assert!(!Arc::ptr_eq(&first, &second));
        reloader.notice(new);
        reloader.notice(again(&old));
        reloader.notice(old);
        assert!(!Arc::ptr_eq(&second, &served()), "restored old contents count as new");
    }
}
