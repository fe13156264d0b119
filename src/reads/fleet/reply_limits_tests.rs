#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

/// Follows these bytes of an engine that owes `owed` replies.
fn read(bytes: &[u8], owed: u64) -> Result<Frames, &'static str> {
    let replies = OwedReplies::default();
    (0..owed).for_each(|_| replies.add());
    let mut frames = Frames::new(replies);
    frames.read(bytes).map(|()| frames)
}

#[test]
fn replies_of_every_kind_are_counted() {
    let replies: &[(&[u8], u64)] = &[
        (b"+OK\r\n", 1),
        (b"-OOM command not allowed\r\n", 1),
        (b":-17\r\n:17\r\n", 2),
        (b"$-1\r\n$0\r\n\r\n$5\r\na\r\nbc\r\n", 3),
        (b"*-1\r\n*0\r\n*2\r\n$1\r\nx\r\n*2\r\n:1\r\n*0\r\n+OK\r\n", 4),
    ];
    for (bytes, count) in replies {
        let frames = read(bytes, *count).unwrap();
        assert!(!frames.owed.take(), "{}", bytes.escape_ascii());
        assert_eq!(read(bytes, count - 1).unwrap_err(), "a reply that nobody asked for");
    }
}

#[test]
fn a_reply_in_pieces_is_one_reply() {
    let bytes = b"*2\r\n$5\r\na\r\nbc\r\n*1\r\n-ERR x\r\n";
    let owed = OwedReplies::default();
    owed.add();
    let mut frames = Frames::new(owed.clone());
    for byte in bytes {
        frames.read(std::slice::from_ref(byte)).unwrap();
    }
    assert!(!owed.take());
}

#[test]
fn what_breaks_a_limit_is_refused_before_it_arrives() {
    let mut nested = b"*1\r\n".repeat(MAX_DEPTH + 1);
    nested.extend_from_slice(b":1\r\n");
    let many = format!("*1000\r\n{}", "*1000\r\n".repeat(1000));
    let values = format!("*3\r\n{}", format!("$4000000\r\n{}\r\n", "x".repeat(4_000_000)).repeat(3));
    for bytes in [
        b"HTTP/1.1 400 Bad Request\r\n".as_slice(),
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"%1\r\n+a\r\n+b\r\n",
        b"$9223372036854775807\r\n",
        b"$500000000000\r\n",
        b"$-2\r\n",
        b"$x\r\n",
        b"$99999999999999999999\r\n",
        b"*9223372036854775807\r\n",
        b"*-5\r\n",
        &nested,
        many.as_bytes(),
        values.as_bytes(),
        format!("+{}", "x".repeat(MAX_LINE + 1)).as_bytes(),
    ] {
        assert!(read(bytes, 1000).is_err(), "{}", bytes.get(..20.min(bytes.len())).unwrap().escape_ascii());
    }
}

proptest! {
    /// Nothing that an engine sends makes the check panic, or keep more than a line.
    #[test]
    fn no_bytes_break_the_check(bytes: Vec<u8>, pieces in 1..9_usize) {
        let mut frames = Frames::new(OwedReplies::default());
        for piece in bytes.chunks(pieces) {
            if frames.read(piece).is_err() {
                break;
            }
            prop_assert!(frames.open.len() <= MAX_DEPTH);
            prop_assert!(frames.bytes <= MAX_REPLY);
        }
    }

    #[test]
    fn no_text_that_looks_like_replies_breaks_the_check(text in "([-+:$*][-0-9a-z]{0,12}(\r\n)?){0,20}") {
        let _ = read(text.as_bytes(), 10);
    }
}
