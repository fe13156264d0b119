use std::fs;

use bytes::Bytes;

use super::{MIB, PieceError, digest, file_of, files_below, keep, new_store, read, sample};

#[tokio::test]
async fn readers_follow_while_a_blob_is_written_and_afterwards() {
    let (folder, store) = new_store();
    let data = sample(1, 2 * MIB + 7);
    let mut staging = store.begin(&digest(&data), None).await.unwrap();
    let reader = staging.reader();
    assert_eq!(reader.piece(0).await, Err(PieceError::Failed), "nothing is written yet");
    for (index, piece) in data.chunks(MIB).enumerate() {
        staging.append(Bytes::copy_from_slice(piece)).await.unwrap();
        assert_eq!(reader.pieces(), index as u64 + 1);
        assert_eq!(reader.clone().piece(index as u64).await.unwrap(), piece);
    }
    assert_eq!(reader.size(), data.len() as u64);
    assert!(store.get(&digest(&data)).await.is_none(), "it is not published yet");
    staging.publish("").await.unwrap();
    fs::remove_file(file_of(&folder, &digest(&data))).unwrap();
    assert_eq!(reader.piece(2).await.unwrap(), data[2 * MIB..]);
}

#[tokio::test]
async fn a_discarded_blob_leaves_nothing_but_its_readers() {
    let (folder, store) = new_store();
    let mut staging = store.begin(&digest(b"data"), None).await.unwrap();
    staging.append(Bytes::from_static(b"data")).await.unwrap();
    let reader = staging.reader();
    let path = staging_file(&folder);
    assert!(path.exists());
    drop(staging);
    // The file is removed on another thread.
    while path.exists() {
        tokio::task::yield_now().await;
    }
    assert_eq!(files_below(folder.path()), 0);
    assert!(store.get(&digest(b"data")).await.is_none());
    assert_eq!(reader.piece(0).await.unwrap(), "data");
}

#[tokio::test]
async fn one_blob_can_be_published_many_times_at_once() {
    let (folder, store) = new_store();
    let data = sample(1, 2 * MIB);
    keep(&store, &data).await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (store, data) = (store.clone(), data.clone());
            tokio::spawn(async move {
                let kept = keep(&store, &data).await;
                assert_eq!(read(&kept).await.unwrap(), data);
                assert_eq!(read(&store.get(&digest(&data)).await.unwrap()).await.unwrap(), data);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(files_below(folder.path()), 1);
    assert_eq!(store.backend.staging().index().used(), (2 * MIB as u64 + 4096, 1));
}

#[tokio::test]
async fn pieces_of_another_length_are_refused() {
    let (_folder, store) = new_store();
    let mut staging = store.begin(&digest(b""), None).await.unwrap();
    assert!(staging.append(Bytes::new()).await.is_err());
    assert!(staging.append(sample(1, MIB + 1).into()).await.is_err());
    staging.append(Bytes::from_static(b"short")).await.unwrap();
    assert!(staging.append(Bytes::from_static(b"after a short one")).await.is_err());
    assert_eq!(staging.reader().size(), 5);
}

#[tokio::test]
async fn a_cancelled_write_ends_the_blob() {
    let (_folder, store) = new_store();
    let mut staging = store.begin(&digest(b""), None).await.unwrap();
    let busy = store.backend.staging().disk.hang().await;
    let mut append = Box::pin(staging.append(Bytes::from_static(b"data")));
    assert!(futures_util::poll!(&mut append).is_pending());
    drop((append, busy));
    assert!(staging.append(Bytes::from_static(b"data")).await.is_err());
    assert!(staging.publish("").await.is_err());
}

#[tokio::test]
async fn what_is_written_is_verified_when_it_is_read() {
    let (folder, store) = new_store();
    let mut staging = store.begin(&digest(b"data"), None).await.unwrap();
    staging.append(Bytes::from_static(b"data")).await.unwrap();
    let path = staging_file(&folder);
    assert!(path.starts_with(folder.path()));
    fs::write(path, b"dAta").unwrap();
    assert_eq!(staging.reader().piece(0).await, Err(PieceError::Damaged));
}

/// The only file in the staging folder.
fn staging_file(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let mut entries = fs::read_dir(folder.path().join("v1/staging")).unwrap();
    entries.next().unwrap().unwrap().path()
}
