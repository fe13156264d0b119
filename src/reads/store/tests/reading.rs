use std::{fs, sync::Arc};

use object_store::memory::InMemory;
use rstest::rstest;

use super::{MIB, PieceError, TIMEOUT, digest, file_of, keep, new_store, next, read, sample};

#[rstest]
#[tokio::test]
async fn a_blob_is_read_as_it_was_written(
    #[values(0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB, 17 * MIB + 3)] size: usize,
    #[values(false, true)] in_bucket: bool,
) {
    let bucket = || super::in_bucket(Arc::new(InMemory::new()), TIMEOUT);
    let (_folder, store) = if in_bucket { bucket() } else { new_store() };
    let data = sample(size as u64, size);
    assert!(store.get(&digest(&data)).await.is_none());
    let published = keep(&store, &data).await;
    assert!(published.is_verified(), "this process wrote it");
    assert_eq!(read(&published).await.unwrap(), data);

    let kept = store.get(&digest(&data)).await.unwrap();
    assert_eq!((kept.size(), kept.pieces()), (size as u64, size.div_ceil(MIB) as u64));
    assert_eq!((kept.media_type(), kept.digest()), ("application/octet-stream", &digest(&data)));
    assert_eq!(kept.is_verified(), !in_bucket);
    assert_eq!(read(&kept).await.unwrap(), data);
    assert_eq!(kept.piece(kept.pieces()).await, Err(PieceError::Failed));
}

#[tokio::test]
async fn no_changed_bit_is_returned_and_the_blob_is_kept_again() {
    let (folder, store) = new_store();
    let data = sample(1, 3 * MIB + 100);
    let wanted = digest(&data);
    let (mut state, mut in_data, mut in_footer) = (4, 0, 0);
    for round in 0..120 {
        keep(&store, &data).await;
        let file = file_of(&folder, &wanted);
        let mut object = fs::read(&file).unwrap();
        // The footer is a fraction of the object; half of the changes are there.
        let from = if round % 2 == 0 { 0 } else { data.len() };
        let at = from + usize::try_from(next(&mut state)).unwrap() % (object.len() - from);
        object[at] ^= 1 << (next(&mut state) % 8);
        fs::write(&file, object).unwrap();
        match store.get(&wanted).await {
            None => in_footer += 1,
            Some(kept) => {
                for index in 0..kept.pieces() {
                    let start = usize::try_from(index).unwrap() * MIB;
                    let expected = &data[start..data.len().min(start + MIB)];
                    match kept.piece(index).await {
                        Ok(piece) => assert_eq!(piece, expected, "byte {at}"),
                        Err(error) => {
                            assert_eq!((error, at / MIB), (PieceError::Damaged, start / MIB));
                            in_data += 1;
                        }
                    }
                }
            }
        }
        assert!(store.get(&wanted).await.is_none(), "byte {at}: the damaged blob is gone");
        assert!(!file.exists());
    }
    assert_eq!([in_data, in_footer], [60, 60]);
}

#[tokio::test]
async fn an_object_that_is_cut_longer_or_under_another_name_is_not_found() {
    let (folder, store) = new_store();
    let (one, other) = (sample(1, 2 * MIB), sample(2, 2 * MIB));
    for change in ["cut", "longer", "empty", "other", "garbage"] {
        keep(&store, &one).await;
        keep(&store, &other).await;
        let file = file_of(&folder, &digest(&one));
        let mut object = fs::read(&file).unwrap();
        match change {
            "cut" => object.truncate(object.len() - 1000),
            "longer" => object.push(0),
            "empty" => object.clear(),
            "other" => object = fs::read(file_of(&folder, &digest(&other))).unwrap(),
            _ => object = sample(3, object.len()),
        }
        fs::write(&file, object).unwrap();
        assert!(store.get(&digest(&one)).await.is_none(), "{change}");
        assert!(!file.exists(), "{change}");
        assert!(store.get(&digest(&other)).await.is_some(), "{change}");
    }
}

#[tokio::test]
async fn a_file_that_is_cut_while_it_is_read_is_damaged() {
    let (folder, store) = new_store();
    let data = sample(1, 3 * MIB);
    keep(&store, &data).await;
    let kept = store.get(&digest(&data)).await.unwrap();
    assert!(kept.piece(0).await.is_ok());
    let file = fs::File::options().write(true).open(file_of(&folder, &digest(&data))).unwrap();
    file.set_len(MIB as u64 + 1).unwrap();
    assert_eq!(kept.piece(1).await, Err(PieceError::Damaged));
    assert!(store.get(&digest(&data)).await.is_none());
}

#[tokio::test]
async fn a_swapped_pair_of_pieces_is_noticed() {
    let (folder, store) = new_store();
    let data = sample(1, 2 * MIB);
    keep(&store, &data).await;
    let file = file_of(&folder, &digest(&data));
    let object = fs::read(&file).unwrap();
    fs::write(&file, [&object[MIB..2 * MIB], &object[..MIB], &object[2 * MIB..]].concat()).unwrap();
    let kept = store.get(&digest(&data)).await.unwrap();
    assert_eq!(kept.piece(1).await, Err(PieceError::Damaged));
}
