//! The directory of kept blobs: its files, their eviction, and the files that are being written.
//!
//! ```text
//! <directory>/v1/<algorithm>/<first two digits>/<digits>     kept blobs
//! <directory>/v1/staging/<random>                            blobs that are being written
//! ```
//!
//! A process holds a lock (flock) on each of its staging files. At the start, those without a lock are removed: their
//! process is gone.

use std::{
    borrow::Borrow,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use super::{
    disk::{self, Disk, is_full},
    footer::{Damage, End, FIRST_READ, Footer},
    index::Index,
};
use crate::oci::{Algorithm, Digest};

/// On a file system without locks: the age at which a staging file is taken for one of a process that is gone.
const ORPHAN_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A directory that holds blobs, or only those that are being written.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    pub(super) disk: Disk,
    index: Mutex<Index>,
    create: Create,
}

/// Creates a staging file. Tests replace it.
pub(super) type Create = fn(&Path) -> io::Result<File>;

/// A file that was read up to its footer.
#[derive(Debug)]
pub(super) enum Opened {
    Whole(File, Footer),
    Damaged(Damage),
}

impl Directory {
    /// Creates what is missing of the directory and checks that files can be written, unless the disk is full. Blocks.
    pub(super) fn open(path: &Path, max_bytes: u64, disk: Disk) -> io::Result<Self> {
        let root = path.join("v1");
        let folder = create_folder(&root.join("staging"));
        let directory = Self { root, disk, index: Mutex::new(Index::new(max_bytes)), create: create_locked };
        match folder.and_then(|()| directory.probe()) {
            // Blobs that are there can be read, and more are kept when there is room again.
            Err(error) if is_full(&error) => {
                tracing::warn!(directory = %path.display(), "the disk of the content store is full");
                Ok(directory)
            }
            ready => ready.map(|()| directory),
        }
    }

    #[cfg(test)]
    pub(super) fn with_create(self, create: Create) -> Self {
        Self { create, ..self }
    }

    /// Writes, reads and deletes a file. Blocks.
    pub(super) fn probe(&self) -> io::Result<()> {
        const CONTENT: &[u8] = b"rexd";
        let (file, path) = self.create_staging()?;
        let read = disk::write(&file, 0, CONTENT).and_then(|()| disk::read(&file, 0, CONTENT.len()));
        fs::remove_file(path)?;
        if read? == CONTENT {
            Ok(())
        } else {
            Err(io::Error::other("a file has other content than was written"))
        }
    }

    /// Makes the index of what is already there, and removes what processes that are gone left behind. Blocks.
    pub(super) fn scan(&self) {
        self.remove_orphans();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for folder in entries(&self.root.join(algorithm.name())) {
                for path in entries(&folder) {
                    let hex = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    let Ok(digest) = format!("{}:{hex}", algorithm.name()).parse::<Digest>() else {
                        continue;
                    };
                    let Ok(metadata) = fs::metadata(&path) else { continue };
                    if path != self.path(&digest) || !metadata.is_file() {
                        continue;
                    }
                    // A time in the future would keep the blob for ever.
                    let now = SystemTime::now();
                    let used = metadata.modified().map_or(now, |modified| modified.min(now));
                    let evicted = self.index().found(&digest, metadata.len(), used);
                    self.delete(&evicted);
                }
            }
        }
    }

    /// Opens the file of a blob and notes the use. Blocks.
    pub(super) fn open_blob(&self, digest: &Digest) -> io::Result<Option<Opened>> {
        let file = match File::open(self.path(digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.index().remove(digest);
                return Ok(None);
            }
            opened => opened?,
        };
        let bytes = file.metadata()?.len();
        match read_footer(&file, bytes, digest)? {
            Ok(footer) => {
                self.used(digest, bytes, &file);
                Ok(Some(Opened::Whole(file, footer)))
            }
            Err(damage) => Ok(Some(Opened::Damaged(damage))),
        }
    }

    fn used(&self, digest: &Digest, bytes: u64, file: &File) {
        let now = SystemTime::now();
        let mut index = self.index();
        // Another process that uses the directory may have written it.
        let evicted = index.found(digest, bytes, now);
        let due = index.touch(digest, now);
        drop(index);
        self.delete(&evicted);
        if due && let Err(error) = file.set_modified(now) {
            tracing::debug!(%digest, %error, "the time of a kept blob's file cannot be set");
        }
    }

    /// Creates a staging file, with its lock. Blocks.
    pub(super) fn create_staging(&self) -> io::Result<(File, PathBuf)> {
        let folder = self.root.join("staging");
        let path = folder.join(format!("{:032x}", rand::random::<u128>()));
        let file = match (self.create)(&path) {
            // Somebody emptied the directory.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_folder(&folder)?;
                (self.create)(&path)?
            }
            created => created?,
        };
        Ok((file, path))
    }

    /// Gives a complete staging file the name of its blob. Blocks.
    pub(super) fn publish(&self, staging: &Path, digest: &Digest, bytes: u64) -> io::Result<()> {
        let path = self.path(digest);
        if let Err(error) = fs::rename(staging, &path) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            path.parent().map_or(Ok(()), create_folder)?;
            fs::rename(staging, &path)?;
        }
        let evicted = self.index().insert(digest, bytes, SystemTime::now());
        self.delete(&evicted);
        Ok(())
    }

    /// Removes a blob. Blocks.
    pub(super) fn remove(&self, digest: &Digest) {
        self.index().remove(digest);
        self.delete(std::slice::from_ref(digest));
    }

    /// Reserves space and deletes blobs for it. `false` if the blobs that are being written leave no room. Blocks.
    fn reserve(&self, bytes: u64) -> bool {
        let evicted = self.index().reserve(bytes);
        evicted.inspect(|evicted| self.delete(evicted)).is_some()
    }

    /// Deletes the blob that was not used for the longest time, because the disk is full. Blocks.
    pub(super) fn evict(&self) -> bool {
        let evicted = self.index().evict();
        evicted.inspect(|digest| self.delete(std::slice::from_ref(digest))).is_some()
    }

    pub(super) fn could_hold(&self, bytes: u64) -> bool {
        self.index().could_hold(bytes)
    }

    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        let (algorithm, first, hex) = parts(digest);
        self.root.join(algorithm).join(first).join(hex)
    }

    fn delete<D: Borrow<Digest>>(&self, digests: &[D]) {
        for digest in digests {
            let digest = digest.borrow();
            match fs::remove_file(self.path(digest)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%digest, %error, "a kept blob cannot be deleted");
                }
                _ => tracing::debug!(%digest, "a kept blob was deleted"),
            }
        }
    }

    fn remove_orphans(&self) {
        for path in entries(&self.root.join("staging")) {
            let Ok(file) = File::open(&path) else { continue };
            let is_orphan = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(_)) => {
                    let modified = file.metadata().and_then(|metadata| metadata.modified());
                    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > ORPHAN_AGE))
                }
            };
            if is_orphan && let Err(error) = fs::remove_file(&path) {
                tracing::debug!(%error, "a file that a process left behind cannot be removed");
            }
        }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Space that a file takes in a directory before its blob is kept; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Space {
    directory: Arc<Directory>,
    bytes: AtomicU64,
}

impl Space {
    pub(super) fn none(directory: &Arc<Directory>) -> Self {
        Self { directory: Arc::clone(directory), bytes: AtomicU64::new(0) }
    }

    /// Reserves more. `false` if there is no room. Blocks.
    pub(super) fn grow(&self, bytes: u64) -> bool {
        let grown = self.directory.reserve(bytes);
        if grown {
            self.bytes.fetch_add(bytes, Relaxed);
        }
        grown
    }

    /// Gives the space back.
    pub(super) fn release(&self) {
        self.directory.index().release(self.bytes.swap(0, Relaxed));
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.release();
    }
}

/// The names in the path of a blob: algorithm, the first two digits, all digits.
pub(super) fn parts(digest: &Digest) -> (&str, &str, &str) {
    let (algorithm, hex) = digest.as_str().split_once(':').unwrap_or_default();
    (algorithm, hex.get(..2).unwrap_or_default(), hex)
}

fn read_footer(file: &File, bytes: u64, digest: &Digest) -> io::Result<Result<Footer, Damage>> {
    let mut length = bytes.min(FIRST_READ);
    loop {
        let end = disk::read(file, bytes - length, usize::try_from(length).map_err(io::Error::other)?)?;
        match Footer::parse(bytes, &end, digest) {
            Ok(End::Complete(footer)) => return Ok(Ok(footer)),
            Ok(End::Longer(longer)) if longer > length && longer <= bytes => length = longer,
            Ok(End::Longer(_)) => return Ok(Err(Damage("the footer is too short"))),
            Err(damage) => return Ok(Err(damage)),
        }
    }
}

/// Only this process's user may read what callers need a grant for.
fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn create_locked(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    match file.try_lock() {
        // The file system has no locks.
        Ok(()) | Err(TryLockError::Error(_)) => {}
        Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::ResourceBusy.into()),
    }
    // Another process may have removed it between its creation and its lock.
    if file.metadata()?.nlink() == 0 { Err(io::ErrorKind::ResourceBusy.into()) } else { Ok(file) }
}

/// The paths in a folder; none if it cannot be read.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok().map(|entry| entry.path()))
}
