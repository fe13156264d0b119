//! Tests of the store, and the blobs and stores that they share.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod bucket;
mod directory;
mod footer;
mod pieces;
mod reading;
mod writing;

use std::{fs, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use object_store::ObjectStore;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::{
    ContentStore, KeptBlob, Location, PIECE_BYTES, PieceError, Settings,
    backend::Place,
    bucket::Bucket,
    directory::{Directory, parts},
    disk::Disk,
    pieces::Pieces,
};
use crate::oci::Digest;

const MIB: usize = PIECE_BYTES;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Pseudo-random bytes (SplitMix64).
fn sample(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| next(&mut state).to_le_bytes());
    words.flatten().take(size).collect()
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn digest(data: &[u8]) -> Digest {
    let hex: String = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}").parse().unwrap()
}

fn in_directory(path: &Path, max_bytes: u64) -> ContentStore {
    let location = Location::Directory(path.to_owned());
    ContentStore::open(&Settings { location, max_bytes, timeout: TIMEOUT }).unwrap()
}

/// A store in a new directory.
fn new_store() -> (TempDir, ContentStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = in_directory(folder.path(), 1 << 30);
    (folder, store)
}

/// A store in a bucket, with a new spool directory.
fn in_bucket(bucket: Arc<dyn ObjectStore>, timeout: Duration) -> (TempDir, ContentStore) {
    let folder = tempfile::tempdir().unwrap();
    let spool = Directory::open(folder.path(), 1 << 30, Disk::new(TIMEOUT)).unwrap();
    let bucket = Arc::new(Bucket::new(bucket, "some/prefix", timeout));
    let store =
        ContentStore::new(Place::Bucket { bucket, pieces: Pieces::new(), spool: Arc::new(spool) }).unwrap();
    (folder, store)
}

/// Keeps a blob.
async fn keep(store: &ContentStore, data: &[u8]) -> KeptBlob {
    keep_as(store, &digest(data), data).await
}

/// Keeps data under any digest, as somebody who can write the store could.
async fn keep_as(store: &ContentStore, digest: &Digest, data: &[u8]) -> KeptBlob {
    let mut staging = store.begin(digest, Some(data.len() as u64)).await.unwrap();
    for piece in data.chunks(MIB) {
        staging.append(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    staging.publish("application/octet-stream").await.unwrap()
}

/// All data of a blob.
async fn read(blob: &KeptBlob) -> Result<Vec<u8>, PieceError> {
    let mut data = Vec::new();
    for index in 0..blob.pieces() {
        data.extend(blob.piece(index).await?);
    }
    Ok(data)
}

/// The file of a blob in a directory.
fn file_of(folder: &TempDir, digest: &Digest) -> std::path::PathBuf {
    let (algorithm, first, hex) = parts(digest);
    folder.path().join("v1").join(algorithm).join(first).join(hex)
}

/// How many files are below a folder.
fn files_below(folder: &Path) -> usize {
    let count = |entry: fs::DirEntry| {
        if entry.file_type().unwrap().is_dir() { files_below(&entry.path()) } else { 1 }
    };
    fs::read_dir(folder).unwrap().map(|entry| count(entry.unwrap())).sum()
}
