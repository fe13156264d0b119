//! What readers of a bucket share.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use futures_util::future::join_all;

use super::{
    super::PieceHashes,
    MIB, PieceError, TIMEOUT,
    bucket::{Fault, Faulty},
    digest, in_bucket, keep, keep_as, read, sample,
};
use crate::reads::store::KeptBlob;

/// Reads the whole blob, as a reader who hashes it.
async fn verify(blob: &KeptBlob) {
    let mut hashes = PieceHashes::default();
    for index in 0..blob.pieces() {
        blob.hashed_piece(index, &mut hashes).await.unwrap();
    }
    blob.keep_verified(hashes).await;
}

#[tokio::test]
async fn readers_at_the_same_place_share_one_request() {
    let objects = Faulty::new();
    let (_folder, store) = in_bucket(Arc::clone(&objects) as _, TIMEOUT);
    let data = sample(1, 3 * MIB);
    keep(&store, &data).await;
    let kept = store.get(&digest(&data)).await.unwrap();
    let before = objects.requests.load(Relaxed);
    for (index, expected) in data.chunks(MIB).enumerate() {
        let pieces = join_all((0..50).map(|_| kept.piece(index as u64))).await;
        assert!(pieces.into_iter().all(|piece| piece.unwrap() == expected));
    }
    assert_eq!(objects.requests.load(Relaxed) - before, 3);
}

#[tokio::test]
async fn a_reader_who_leaves_does_not_end_the_request_of_the_others() {
    let objects = Faulty::new();
    let (_folder, store) = in_bucket(Arc::clone(&objects) as _, TIMEOUT);
    let data = sample(2, MIB);
    keep(&store, &data).await;
    let kept = store.get(&digest(&data)).await.unwrap();
    objects.set(Fault::Hangs);
    let (mut first, mut second) = (Box::pin(kept.piece(0)), Box::pin(kept.piece(0)));
    assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
    objects.set(Fault::None);
    drop(first);
    assert_eq!(second.await.unwrap(), data);
}

#[tokio::test]
async fn a_blob_that_was_verified_is_verified_piece_by_piece() {
    let (_folder, store) = in_bucket(Faulty::new(), TIMEOUT);
    let (data, other) = (sample(3, 2 * MIB + 5), sample(4, 2 * MIB + 5));
    let wanted = digest(&data);
    keep(&store, &data).await;
    let first = store.get(&wanted).await.unwrap();
    assert!(!first.is_verified());
    verify(&first).await;
    let kept = store.get(&wanted).await.unwrap();
    assert!(kept.is_verified());
    assert_eq!(read(&kept).await.unwrap(), data);

    // Its checksums match, and nobody has its pieces any more.
    kept.discard().await;
    keep_as(&store, &wanted, &other).await;
    let exchanged = store.get(&wanted).await.unwrap();
    assert_eq!(exchanged.piece(1).await, Err(PieceError::Damaged));
    assert!(store.get(&wanted).await.is_none(), "it is deleted");
}

#[tokio::test]
async fn an_object_of_another_size_than_the_blob_is_deleted() {
    let (_folder, store) = in_bucket(Faulty::new(), TIMEOUT);
    let data = sample(5, 2 * MIB);
    keep(&store, &data).await;
    verify(&store.get(&digest(&data)).await.unwrap()).await;
    keep_as(&store, &digest(&data), &data[..MIB]).await;
    assert!(store.get(&digest(&data)).await.is_none());
    keep(&store, &data).await;
    assert_eq!(read(&store.get(&digest(&data)).await.unwrap()).await.unwrap(), data);
}

#[tokio::test]
async fn a_piece_that_changes_while_a_reader_hashes_the_blob_is_noticed() {
    let (_folder, store) = in_bucket(Faulty::new(), TIMEOUT);
    let (data, other) = (sample(6, 2 * MIB), sample(7, 2 * MIB));
    let wanted = digest(&data);
    keep(&store, &data).await;
    let kept = store.get(&wanted).await.unwrap();
    let mut hashes = PieceHashes::default();
    kept.hashed_piece(0, &mut hashes).await.unwrap();
    kept.discard().await;
    keep_as(&store, &wanted, &other).await;
    let exchanged = store.get(&wanted).await.unwrap();
    assert_eq!(exchanged.hashed_piece(0, &mut hashes).await, Err(PieceError::Damaged));
}
