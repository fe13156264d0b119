use super::super::footer::*;
use super::{digest, next, sample};

fn footer(data: &[u8]) -> Footer {
    Footer {
        digest: digest(data),
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
        size: data.len() as u64,
        checksums: data.chunks(PIECE_BYTES).map(checksum).collect(),
    }
}

#[test]
fn a_footer_is_read_as_it_was_written() {
    for size in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
        let footer = footer(&sample(1, size));
        let end = footer.encode().unwrap();
        let object = (size + end.len()) as u64;
        let longer = [&[7; 100], &end[..]].concat();
        if size > 100 {
            assert_eq!(Footer::parse(object, &longer, &footer.digest), Ok(End::Complete(footer.clone())));
        }
        assert_eq!(Footer::parse(object, &end, &footer.digest), Ok(End::Complete(footer.clone())));
        let short = Footer::parse(object, &end[end.len() - 32..], &footer.digest);
        assert_eq!(short, Ok(End::Longer(end.len() as u64)));
    }
}

#[test]
fn every_changed_bit_of_a_footer_is_noticed() {
    let footer = footer(&sample(2, 2 * PIECE_BYTES + 5));
    let end = footer.encode().unwrap();
    let object = footer.size + end.len() as u64;
    for bit in 0..end.len() * 8 {
        let mut changed = end.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let parsed = Footer::parse(object, &changed, &footer.digest);
        assert!(!matches!(parsed, Ok(End::Complete(_))), "bit {bit}: {parsed:?}");
    }
}

#[test]
fn no_garbage_is_taken_for_a_footer_or_asks_for_a_large_read() {
    let (wanted, mut state) = (digest(b""), 3);
    let (size, magic) = (0x7fff_ffff_ffff_fff0_u64, *b"rexdblob");
    for _ in 0..10_000 {
        let mut garbage = sample(next(&mut state), 64);
        // Beyond the magic number and the version, which garbage hardly has.
        garbage[64 - 8..].copy_from_slice(&magic);
        garbage[64 - 20..64 - 16].copy_from_slice(&1_u32.to_le_bytes());
        let object = if next(&mut state).is_multiple_of(2) { size } else { next(&mut state) };
        let parsed = Footer::parse(object, &garbage, &wanted);
        assert!(parsed.is_err(), "{parsed:?}");
    }
}

#[test]
fn a_footer_of_another_blob_is_refused() {
    let footer = footer(b"one");
    let end = footer.encode().unwrap();
    let parsed = Footer::parse(3 + end.len() as u64, &end, &digest(b"two"));
    assert_eq!(parsed, Err(Damage("the object is of another blob")));
}

#[test]
fn the_last_piece_is_the_rest() {
    let mut footer = footer(b"");
    assert_eq!(footer.piece(0), None);
    footer.size = 2 * PIECE_BYTES as u64 + 1;
    assert_eq!(footer.piece(1), Some((PIECE_BYTES as u64, PIECE_BYTES)));
    assert_eq!(footer.piece(2), Some((2 * PIECE_BYTES as u64, 1)));
    assert_eq!([footer.piece(3), footer.piece(u64::MAX)], [None, None]);
}

#[test]
fn a_media_type_that_is_too_long_is_not_written() {
    let mut footer = footer(b"one");
    footer.media_type = "x".repeat(256);
    assert_eq!(footer.encode(), None);
}
