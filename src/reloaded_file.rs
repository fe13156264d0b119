//! A file that may change while the service runs, and what was read from it last.
//!
//! The file is looked at when it is needed and the last look is older than a second: no task, no inotify watch to run out
//! of, and it does not matter how the file changes – in place, by rename, or by Kubernetes swapping `..data`. A file that
//! turns bad keeps the last good content in use and says so in the log. One that is gone is as an empty one: good where that
//! means nothing, bad where something must be there.

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

/// How long a look is good for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The most that is read; a Kubernetes Secret holds at most 1 MiB.
const MAX_BYTES: u64 = 1 << 20;

/// Makes content of a file's bytes; the error says what is wrong, without quoting a secret.
pub(crate) type Parse<T> = fn(&[u8]) -> Result<T, String>;

/// What a file held when it was last good.
#[derive(Debug)]
pub(crate) struct ReloadedFile<T>(Arc<File<T>>);

#[derive(Debug)]
struct File<T> {
    path: PathBuf,
    parse: Parse<T>,
    current: RwLock<Arc<T>>,
    look: Arc<Mutex<Look>>,
}

#[derive(Debug)]
struct Look {
    next: Instant,
    /// The hash of what the file held: the bytes may be a secret, and are kept by whoever parsed them, or by nobody.
    seen: [u8; 32],
}

impl<T: Send + Sync + 'static> ReloadedFile<T> {
    /// Reads the file for the first time; whatever is wrong with it is an error.
    pub(crate) fn open(path: &Path, parse: Parse<T>) -> Result<Self, String> {
        let say = |problem: String| format!("{}: {problem}", path.display());
        let bytes = read(path).map_err(|error| say(error.to_string()))?;
        let content = parse(&bytes).map_err(say)?;
        let look = Look { next: Instant::now() + LOOK_EVERY, seen: Sha256::digest(&bytes).into() };
        Ok(Self(Arc::new(File {
            path: path.to_owned(),
            parse,
            current: RwLock::new(Arc::new(content)),
            look: Arc::new(Mutex::new(look)),
        })))
    }

    /// The content; at most a second old.
    pub(crate) async fn get(&self) -> Arc<T> {
        // Who finds somebody looking goes on with what there is.
        if let Ok(look) = Arc::clone(&self.0.look).try_lock_owned()
            && look.next <= Instant::now()
        {
            self.look_again(look).await;
        }
        self.last()
    }

    /// Looks at the file now, whenever the last look was.
    pub(crate) async fn refresh(&self) {
        let look = Arc::clone(&self.0.look).lock_owned().await;
        self.look_again(look).await;
    }

    /// The content as it was at the last look.
    pub(crate) fn last(&self) -> Arc<T> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// In a task of its own: a call that is cancelled meanwhile does not take the look with it.
    async fn look_again(&self, look: OwnedMutexGuard<Look>) {
        let file = Arc::clone(&self.0);
        if let Err(error) = tokio::task::spawn_blocking(move || file.look_again(look)).await {
            tracing::error!(file = %self.0.path.display(), %error, "a file could not be looked at");
        }
    }
}

impl<T> File<T> {
    fn look_again(&self, mut look: OwnedMutexGuard<Look>) {
        look.next = Instant::now() + LOOK_EVERY;
        let (bytes, gone) = match read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Ok(Vec::new()), Some(error)),
            read => (read, None),
        };
        let content = bytes.map_err(|error| error.to_string()).and_then(|bytes| {
            let seen = Sha256::digest(&bytes).into();
            if look.seen == seen {
                return Ok(None);
            }
            look.seen = seen;
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
                tracing::warn!(file = %self.path.display(), problem, "a changed file is broken; its last good content stays in use");
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
