use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{
    super::{
        ContentStore, Location, PieceError, Settings,
        backend::Place,
        directory::{Create, Directory},
        disk::Disk,
        index::Index,
    },
    MIB, TIMEOUT, digest, file_of, files_below, in_directory, keep, new_store, read, sample,
};

const PIECE: u64 = MIB as u64;

/// Which of these blobs are kept, without a use of them.
fn kept(folder: &tempfile::TempDir, blobs: &[Vec<u8>]) -> Vec<bool> {
    blobs.iter().map(|blob| file_of(folder, &digest(blob)).exists()).collect()
}

#[tokio::test]
async fn the_blob_that_was_not_used_for_the_longest_time_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let blobs: Vec<_> = (0..4).map(|seed| sample(seed, MIB)).collect();
    // Three blobs with their footers; a fourth makes room for itself while it is written.
    let store = in_directory(folder.path(), 3 * PIECE + 3 * 4096);
    for blob in blobs.iter().take(3) {
        keep(&store, blob).await;
    }
    assert!(store.get(&digest(&blobs[0])).await.is_some());
    keep(&store, &blobs[3]).await;
    assert_eq!(kept(&folder, &blobs), [true, false, true, true]);
}

#[tokio::test]
async fn a_restart_keeps_the_order_of_use_and_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let blobs: Vec<_> = (0..4).map(|seed| sample(seed, MIB)).collect();
    let store = in_directory(folder.path(), 100 * PIECE);
    for blob in &blobs {
        keep(&store, blob).await;
    }
    drop(store);
    // The times of the last use: the second blob's is the oldest.
    for (blob, minutes) in blobs.iter().zip([3, 4, 2, 1]) {
        let used = SystemTime::now() - Duration::from_secs(60 * minutes);
        File::open(file_of(&folder, &digest(blob))).unwrap().set_modified(used).unwrap();
    }
    let store = in_directory(folder.path(), 4 * PIECE);
    store.scanned().await;
    assert_eq!(kept(&folder, &blobs), [true, false, true, true]);
    let (used, count) = store.backend.staging().index().used();
    assert_eq!((used, count), (3 * (PIECE + 4096), 3));
    assert!(store.get(&digest(&blobs[0])).await.is_some(), "a use sets the time again");
    drop(store);
    let store = in_directory(folder.path(), 2 * PIECE);
    store.scanned().await;
    assert_eq!(kept(&folder, &blobs), [true, false, false, false]);
}

#[tokio::test]
async fn a_time_in_the_future_is_no_privilege() {
    let (folder, store) = new_store();
    let (old, new) = (sample(1, MIB), sample(2, MIB));
    keep(&store, &old).await;
    let future = SystemTime::now() + Duration::from_secs(1_000_000);
    File::open(file_of(&folder, &digest(&old))).unwrap().set_modified(future).unwrap();
    drop(store);
    let store = in_directory(folder.path(), 2 * PIECE);
    store.scanned().await;
    keep(&store, &new).await;
    assert_eq!(kept(&folder, &[old, new]), [false, true]);
}

#[tokio::test]
async fn staging_files_of_a_process_that_is_gone_are_removed_and_those_of_another_are_not() {
    let (folder, store) = new_store();
    let staging = folder.path().join("v1/staging");
    let mut unfinished = store.begin(&digest(b""), None).await.unwrap();
    unfinished.append(Bytes::from_static(b"half")).await.unwrap();
    // What a killed process leaves: the same file without a lock.
    fs::write(staging.join("00112233445566778899aabbccddeeff"), b"half of a blob").unwrap();
    assert_eq!(files_below(folder.path()), 2);
    let other = in_directory(folder.path(), 1 << 30);
    other.scanned().await;
    assert_eq!(files_below(folder.path()), 1);
    assert!(other.get(&digest(b"")).await.is_none());
    unfinished.publish("").await.unwrap();
}

#[tokio::test]
async fn a_directory_that_somebody_empties_is_used_again() {
    let (folder, store) = new_store();
    let (data, other) = (sample(1, 3 * MIB), sample(2, MIB));
    keep(&store, &data).await;
    let kept = store.get(&digest(&data)).await.unwrap();
    let mut staging = store.begin(&digest(&other), None).await.unwrap();
    staging.append(other.clone().into()).await.unwrap();
    fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(read(&kept).await.unwrap(), data, "an open file stays readable");
    assert!(store.get(&digest(&data)).await.is_none());
    assert_eq!(store.backend.staging().index().used().1, 0);
    assert!(staging.publish("").await.is_err(), "the staging file is gone");
    keep(&store, &data).await;
    assert_eq!(read(&store.get(&digest(&data)).await.unwrap()).await.unwrap(), data);
}

#[tokio::test]
async fn a_full_disk_costs_old_blobs_and_then_refuses_new_ones() {
    let (folder, store) = new_store();
    let old: Vec<_> = (0..10).map(|seed| sample(seed, 100)).collect();
    for blob in &old {
        keep(&store, blob).await;
    }
    drop(store);
    // Each write to this device fails with ENOSPC.
    let full: Create = |_| OpenOptions::new().read(true).write(true).open("/dev/full");
    let directory = Directory::open(folder.path(), 1 << 30, Disk::new(TIMEOUT)).unwrap().with_create(full);
    directory.scan();
    let store = ContentStore::new(Place::Directory(Arc::new(directory))).unwrap();
    let mut staging = store.begin(&digest(b"x"), None).await.unwrap();
    let error = staging.append(Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(kept(&folder, &old).iter().filter(|kept| **kept).count(), 2, "eight made room");
    assert!(staging.append(Bytes::from_static(b"x")).await.is_err());
    assert!(staging.publish("").await.is_err());
    assert!(store.begin(&digest(b"x"), None).await.is_none(), "the next blobs are not tried");
    let last = old.last().unwrap();
    assert_eq!(read(&store.get(&digest(last)).await.unwrap()).await.unwrap(), *last, "reading goes on");
}

#[tokio::test]
async fn a_disk_that_hangs_costs_one_bounded_wait() {
    let (_folder, store) = new_store();
    let data = sample(1, 2 * MIB);
    keep(&store, &data).await;
    let kept = store.get(&digest(&data)).await.unwrap();
    let mut staging = store.begin(&digest(b"x"), None).await.unwrap();
    tokio::time::pause();
    let disk = &store.backend.staging().disk;
    let hanging = disk.hang().await;
    let start = tokio::time::Instant::now();
    for _ in 0..100 {
        assert!(store.get(&digest(&data)).await.is_none());
        assert_eq!(kept.piece(0).await, Err(PieceError::Failed));
    }
    let round = |time: Duration| Duration::from_secs_f64(time.as_secs_f64().round());
    assert_eq!(round(start.elapsed()), TIMEOUT, "to find or to read");
    assert_eq!(staging.append(Bytes::from_static(b"x")).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    for _ in 0..100 {
        assert!(store.begin(&digest(b"x"), None).await.is_none());
    }
    assert_eq!(round(start.elapsed()), 2 * TIMEOUT, "and to write");
    drop(hanging);
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
    assert_eq!(read(&store.get(&digest(&data)).await.unwrap()).await.unwrap(), data);
}

#[tokio::test]
async fn blobs_that_are_written_count_and_give_their_space_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = in_directory(folder.path(), 3 * PIECE);
    let used = || store.backend.staging().index().used().0;
    assert!(store.begin(&digest(b"x"), Some(3 * PIECE + 1)).await.is_none(), "it can never fit");
    let mut one = store.begin(&digest(b"1"), None).await.unwrap();
    let mut two = store.begin(&digest(b"2"), None).await.unwrap();
    let piece = Bytes::from(sample(1, MIB));
    one.append(piece.clone()).await.unwrap();
    two.append(piece.clone()).await.unwrap();
    one.append(piece.clone()).await.unwrap();
    assert_eq!(used(), 3 * PIECE);
    assert!(two.append(piece.clone()).await.is_err(), "no room");
    let reader = two.reader();
    drop(two);
    assert_eq!(used(), 3 * PIECE, "its reader still has the file");
    drop(reader);
    assert_eq!(used(), 2 * PIECE);
    one.publish("").await.unwrap();
    assert_eq!(used(), 2 * PIECE + 4096);
}

#[test]
fn a_directory_that_cannot_be_written_ends_the_start_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, b"").unwrap();
    let settings = Settings { location: Location::Directory(path), max_bytes: PIECE, timeout: TIMEOUT };
    let error = ContentStore::open(&settings).unwrap_err();
    assert!(
        error.starts_with("cache.store.url: the directory ") && error.contains("cannot be written"),
        "{error}"
    );
}

#[tokio::test]
async fn only_the_user_of_the_process_may_read_what_is_kept() {
    let (folder, store) = new_store();
    keep(&store, b"secret").await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file_of(&folder, &digest(b"secret"))), 0o600);
    assert_eq!(mode(&folder.path().join("v1")), 0o700);
    store.check().await.unwrap();
    assert_eq!(files_below(&folder.path().join("v1/staging")), 0);
}

#[test]
fn the_number_of_blobs_is_bounded_whatever_their_size() {
    let mut index = Index::new(u64::MAX).with_max_blobs(3);
    let now = SystemTime::now();
    let evicted: usize = (0_u64..10).map(|n| index.insert(&digest(&n.to_le_bytes()), 0, now).len()).sum();
    assert_eq!((evicted, index.used().1), (7, 3));
}
