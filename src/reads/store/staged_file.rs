//! The file of a blob that is being written: what is already in it can be read.

use std::{
    fs::File,
    io,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use bytes::Bytes;

use super::{
    directory::{Directory, Space},
    disk,
    failure::Failure,
    footer::{self, Damage, Footer, PIECE_BYTES},
};
use crate::oci::Digest;

/// After the disk was found full, this many blobs are deleted for one piece before the blob is given up.
const EVICTIONS_FOR_A_PIECE: usize = 8;

/// A file that grows by whole pieces.
#[derive(Debug)]
pub(super) struct StagedFile {
    file: File,
    directory: Arc<Directory>,
    pub(super) space: Space,
    /// Only what is in the file: the media type is known last.
    written: RwLock<Footer>,
}

impl StagedFile {
    pub(super) fn new(file: File, directory: &Arc<Directory>, digest: &Digest) -> Self {
        let written =
            Footer { digest: digest.clone(), media_type: String::new(), size: 0, checksums: Vec::new() };
        Self {
            file,
            directory: Arc::clone(directory),
            space: Space::none(directory),
            written: RwLock::new(written),
        }
    }

    /// What is in the file.
    pub(super) fn written(&self) -> RwLockReadGuard<'_, Footer> {
        self.written.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the next piece. `false` if there is no room for it. Blocks.
    pub(super) fn append(&self, piece: &[u8]) -> io::Result<bool> {
        if !self.space.grow(PIECE_BYTES as u64) {
            return Ok(false);
        }
        let checksum = footer::checksum(piece);
        self.write(self.written().size, piece)?;
        let mut written = self.written.write().unwrap_or_else(PoisonError::into_inner);
        written.size += piece.len() as u64;
        written.checksums.push(checksum);
        Ok(true)
    }

    /// Writes at this offset. A full disk costs the blobs that were not used for the longest time. Blocks.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        for _ in 0..EVICTIONS_FOR_A_PIECE {
            match disk::write(&self.file, offset, bytes) {
                Err(error) if disk::is_full(&error) && self.directory.evict() => {}
                written => return written,
            }
        }
        disk::write(&self.file, offset, bytes)
    }

    /// Reads a piece that is in the file and verifies it.
    pub(super) async fn piece(self: &Arc<Self>, index: u64) -> Result<Bytes, Failure> {
        let staged = Arc::clone(self);
        self.directory.disk.run(move || Ok(staged.read(index))).await?
    }

    fn read(&self, index: u64) -> Result<Bytes, Failure> {
        let place = self.written().piece(index);
        let (offset, length) =
            place.ok_or_else(|| Failure::Failed("the piece is not written yet".to_owned()))?;
        let piece = disk::read(&self.file, offset, length)?;
        // The length is compared too, so a piece that grew in the meantime would be refused.
        if self.written().matches(index, &piece) {
            Ok(piece)
        } else {
            Err(Damage("the checksum of a piece does not match").into())
        }
    }
}
