//! A file that may change while the service runs, and what was read from it last.
//!
//! The file is read again when its content is needed and the last read is older than a second. This needs no task and no
//! inotify watch, and works however the file changes: in place, by rename, or when Kubernetes swaps `..data`. If the new
//! content is invalid, the last valid content stays in use and a warning is logged. A file that was removed is treated as
//! empty; the parser decides whether an empty file is valid.

use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::Instant,
};

/// How long content is used before the file is read again.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The most that is read; a Kubernetes Secret holds at most 1 MiB.
const MAX_BYTES: u64 = 1 << 20;

/// Parses the bytes of a file. The error says what is wrong, without quoting a secret.
pub(crate) type Parse<T> = fn(&[u8]) -> Result<T, String>;

/// The last valid content of a file.
#[derive(Debug)]
pub(crate) struct ReloadedFile<T>(Arc<File<T>>);

#[derive(Debug)]
struct File<T> {
    path: PathBuf,
    parse: Parse<T>,
    current: RwLock<Arc<T>>,
    last_check: Arc<Mutex<LastCheck>>,
}

#[derive(Debug)]
struct LastCheck {
    next: Instant,
    /// The hash of the file's bytes. The bytes themselves may be a secret; only the parsed content keeps them.
    seen: [u8; 32],
}

impl<T: Send + Sync + 'static> ReloadedFile<T> {
    /// Reads the file for the first time. An unreadable or invalid file is an error.
    pub(crate) fn open(path: &Path, parse: Parse<T>) -> Result<Self, String> {
        let say = |problem: String| format!("{}: {problem}", path.display());
        let bytes = read(path).map_err(|error| say(error.to_string()))?;
        let content = parse(&bytes).map_err(say)?;
        let last_check =
            LastCheck { next: Instant::now() + CHECK_EVERY, seen: Sha256::digest(&bytes).into() };
        Ok(Self(Arc::new(File {
            path: path.to_owned(),
            parse,
            current: RwLock::new(Arc::new(content)),
            last_check: Arc::new(Mutex::new(last_check)),
        })))
    }

    /// The content; at most a second old.
    pub(crate) async fn get(&self) -> Arc<T> {
        // While another call reads the file, this one uses the current content.
        if let Ok(last_check) = Arc::clone(&self.0.last_check).try_lock_owned()
            && last_check.next <= Instant::now()
        {
            self.check_again(last_check).await;
        }
        self.last()
    }

    /// Reads the file now, however recent the last read is.
    pub(crate) async fn refresh(&self) {
        let last_check = Arc::clone(&self.0.last_check).lock_owned().await;
        self.check_again(last_check).await;
    }

    /// The content of the last read.
    pub(crate) fn last(&self) -> Arc<T> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs in a task of its own, so that cancelling the call does not cancel the read.
    async fn check_again(&self, last_check: OwnedMutexGuard<LastCheck>) {
        let file = Arc::clone(&self.0);
        if let Err(error) = tokio::task::spawn_blocking(move || file.check_again(last_check)).await {
            tracing::error!(file = %self.0.path.display(), %error, "the task that reads a file again failed");
        }
    }
}

impl<T> File<T> {
    fn check_again(&self, mut last_check: OwnedMutexGuard<LastCheck>) {
        last_check.next = Instant::now() + CHECK_EVERY;
        let (bytes, gone) = match read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Ok(Vec::new()), Some(error)),
            read => (read, None),
        };
        let content = bytes.map_err(|error| error.to_string()).and_then(|bytes| {
            let seen = Sha256::digest(&bytes).into();
            if last_check.seen == seen {
                return Ok(None);
            }
            last_check.seen = seen;
            let content = (self.parse)(&bytes);
            content.map(Some).map_err(|problem| gone.map_or(problem, |error| error.to_string()))
        });
        match content {
            Ok(None) => {}
            Ok(Some(content)) => {
                tracing::info!(file = %self.path.display(), "a changed file was read again");
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(content);
            }
            Err(problem) => {
                tracing::warn!(file = %self.path.display(), problem, "a changed file is invalid; its last valid content stays in use");
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(bytes)
}
