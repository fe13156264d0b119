//! Responses that a seeded generator chooses, most of them contradictory: a stream that ends with a trailer is right, and
//! every stream ends.

use std::sync::{Arc, Mutex};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sha2::Sha256;

use crate::{
    Scripted, digest, noise,
    support::{scripted::Reply, wire::Request},
};

const SEED: u64 = 8;
const ROUNDS: usize = 300;

/// More than any read of these small blobs may cause: first tries, three resumes, and three tries of each.
const MAX_REQUESTS: usize = 60;

fn requested(request: &Request, size: usize) -> (usize, usize) {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = range else { return (0, size - 1) };
    (first.parse().unwrap(), last.parse().unwrap_or(size - 1).min(size - 1))
}

/// A number near `value`, mostly `value` itself.
fn near(random: &mut StdRng, value: usize) -> usize {
    match random.random_range(0..6) {
        0 => value.saturating_sub(random.random_range(1..50)),
        1 => value + random.random_range(1..50),
        _ => value,
    }
}

/// A body with a length that may be wrong, or in one chunk that may be cut.
fn framed(random: &mut StdRng, head: &str, body: &[u8]) -> Reply {
    let mut bytes = format!("HTTP/1.1 {head}\r\nConnection: close\r\n").into_bytes();
    match random.random_range(0..4) {
        0 => {
            bytes.extend(format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()).into_bytes());
            bytes.extend(body);
            if random.random() {
                bytes.extend(b"\r\n0\r\n\r\n");
            }
        }
        1 => {
            bytes.extend(b"\r\n");
            bytes.extend(body);
        }
        _ => {
            let length = near(random, body.len());
            bytes.extend(format!("Content-Length: {length}\r\n\r\n").into_bytes());
            bytes.extend(body);
        }
    }
    Reply::Raw(bytes)
}

/// A response whose bytes are those of the range that it names, whatever else is wrong with it. Only `corrupt` ones differ.
fn reply(random: &mut StdRng, request: &Request, blob: &[u8], corrupt: bool) -> Reply {
    let (first, last) = requested(request, blob.len());
    let mut content = blob.to_vec();
    if corrupt && random.random_range(0..3) == 0 {
        let at = random.random_range(0..content.len());
        content[at] ^= 1;
    }
    match random.random_range(0..12) {
        0 => {
            let status = [202, 203, 404, 500, 504][random.random_range(0..5)];
            Reply::status(status).body(noise(2 * blob.len()).split_off(blob.len()))
        }
        1 => Reply::Raw(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_vec()),
        2 => {
            let size = near(random, blob.len());
            Reply::status(416).header("Content-Range", format!("bytes */{size}"))
        }
        3 => {
            // The whole, called a part.
            let label = format!("bytes {first}-{last}/{}", blob.len());
            Reply::status(206).header("Content-Range", label).body(content)
        }
        4..=5 => {
            let end = near(random, content.len()).min(content.len());
            framed(random, "200 OK", &content[..end])
        }
        _ => {
            let (first, last) = (near(random, first), near(random, last));
            let size = match random.random_range(0..4) {
                0 => "*".to_owned(),
                _ => near(random, blob.len()).to_string(),
            };
            let from = first.min(content.len());
            let to = near(random, last + 1).clamp(from, content.len());
            let head = format!("206 Partial Content\r\nContent-Range: bytes {first}-{last}/{size}");
            framed(random, &head, &content[from..to])
        }
    }
}

#[tokio::test]
async fn a_stream_that_ends_with_a_trailer_is_right_and_every_stream_ends() {
    let blob = noise(1000);
    let digest = digest::<Sha256>("sha256", &blob);
    let mut scripted = Scripted::new().await;
    let round = Arc::new(Mutex::new((StdRng::seed_from_u64(SEED), false)));
    let (state, content) = (Arc::clone(&round), blob.clone());
    scripted.registry.otherwise(move |request| {
        let (random, corrupt) = &mut *state.lock().unwrap();
        if request.method == "HEAD" {
            return Some(Reply::status(200).header("Content-Length", content.len().to_string()));
        }
        Some(reply(random, request, &content, *corrupt))
    });
    let (mut complete, mut before) = (0, 0);
    for number in 0..ROUNDS {
        let whole = number % 2 == 0;
        let (offset, limit) = {
            let (random, corrupt) = &mut *round.lock().unwrap();
            *corrupt = whole;
            if whole { (0, 0) } else { (random.random_range(0..900), random.random_range(1..200)) }
        };
        let context = format!("seed {SEED}, round {number}: {offset}, {limit}");
        if let Ok(received) = scripted.read(&digest, offset, limit).await
            && let Some(trailer) = received.trailer
        {
            let (length, sent) = (received.header.length as usize, received.data.len());
            // A part is as long as the registry says that the blob is; only the digest of the whole shows that it lies.
            assert!(blob[offset..].starts_with(&received.data), "{context}: wrong bytes");
            let complete_length = if whole { blob.len() } else { length };
            assert!(
                complete_length == 0 || sent == complete_length,
                "{context}: {sent} bytes of {complete_length}"
            );
            assert_eq!(trailer.digest_verified, whole, "{context}");
            complete += 1;
        }
        let requests = scripted.registry.requests().len();
        assert!(requests - before <= MAX_REQUESTS, "{context}: {} requests", requests - before);
        before = requests;
    }
    assert!(complete > ROUNDS / 20, "only {complete} streams were complete");
}
