//! `FILE.part`: the bytes of a blob that were received so far. An interrupted run leaves it behind; the next run continues it.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use super::failure::Failure;
use crate::oci::{Digest, Verifier};

/// Bytes of an existing part that are read at a time.
const READ_BYTES: usize = 128 * 1024;

/// The bytes received so far and their hash.
pub(super) struct PartFile<'a> {
    file: File,
    path: PathBuf,
    /// The name of the complete file.
    name: &'a Path,
    hash: Verifier,
    digest: &'a Digest,
}

impl<'a> PartFile<'a> {
    /// Opens the part and hashes its content; creates it if it does not exist.
    pub(super) fn open(name: &'a Path, digest: &'a Digest) -> Result<Self, Failure> {
        let path = part_of(name);
        let failed = |error| failure(&path, &error);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed)?;
        let mut hash = Verifier::new(digest.algorithm());
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => return Ok(Self { file, path, name, hash, digest }),
                read => hash.update(buffer.get(..read).unwrap_or_default()),
            }
        }
    }

    /// The number of bytes in the part: the offset at which the download continues.
    pub(super) fn len(&self) -> u64 {
        self.hash.seen()
    }

    /// Appends the next bytes of the blob.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| failure(&self.path, &error))?;
        self.hash.update(bytes);
        Ok(())
    }

    /// Removes all bytes, so that the download begins at offset 0.
    pub(super) fn restart(&mut self) -> Result<(), Failure> {
        self.file.set_len(0).map_err(|error| failure(&self.path, &error))?;
        self.hash = Verifier::new(self.digest.algorithm());
        Ok(())
    }

    /// Whether the part matches the digest of the blob.
    pub(super) fn matches(&self) -> bool {
        self.hash.clone().finish() == *self.digest
    }

    /// Gives the complete file its name.
    pub(super) fn finish(self) -> Result<(), Failure> {
        drop(self.file);
        rename(&self.path, self.name)
    }
}

/// The name of the part of a file.
pub(super) fn part_of(name: &Path) -> PathBuf {
    let mut part = name.as_os_str().to_owned();
    part.push(".part");
    PathBuf::from(part)
}

/// Gives a complete part its name.
pub(super) fn rename(part: &Path, name: &Path) -> Result<(), Failure> {
    fs::rename(part, name).map_err(|error| failure(name, &error))
}

/// A failure to read or write a file.
pub(super) fn failure(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("{}: {error}", path.display()))
}
