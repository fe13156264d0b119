//! `cargo bench`: measures each part that every stream, page or failed call passes through.
#![expect(clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rexd::{
    RexError,
    client::{Listing, PageToken, Target},
    error::{At, Missing},
    grpc::wire,
    oci::{Algorithm, Verifier},
};
use serde_json::json;
use tonic::Status;

/// Hashes a blob, in pieces of the size that a socket delivers and of the size of a chunk.
fn verifier(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verifier");
    for (name, algorithm) in [("sha256", Algorithm::Sha256), ("sha512", Algorithm::Sha512)] {
        for bytes in [4 * 1024, 256 * 1024] {
            let piece = vec![0x5a; bytes];
            group.throughput(Throughput::Bytes(bytes as u64));
            group.bench_with_input(BenchmarkId::new(name, bytes), &piece, |bencher, piece| {
                let mut verifier = Verifier::new(algorithm);
                bencher.iter(|| verifier.update(black_box(piece)));
            });
        }
    }
    group.finish();
}

/// Encodes the message of a chunk: only its prefix, whatever the size of its data.
fn frame(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for bytes in [4 * 1024, 64 * 1024, 1024 * 1024] {
        let data = Bytes::from(vec![0x5a; bytes]);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_with_input(BenchmarkId::new("chunk", bytes), &data, |bencher, data| {
            bencher.iter(|| wire::chunk(black_box(5 << 30), data.clone()));
        });
    }
    group.finish();
}

/// A page token, encoded for one call and decoded in the next.
fn page_token(criterion: &mut Criterion) {
    let listing = Listing::Tags(Target {
        registry: "registry.example:5000".parse().expect("a registry"),
        repository: "org/team/app".parse().expect("a repository"),
    });
    let token: PageToken = serde_json::from_value(json!({
        "r": "registry.example:5000",
        "p": "org/team/app",
        "q": format!("n=1000&last={}", "v".repeat(64)),
        "s": 100,
        "n": 7,
        "l": 4_000_000_000_u32,
    }))
    .expect("a token");
    let text = token.encode();
    let mut group = criterion.benchmark_group("page token");
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&token).encode()));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| PageToken::decode(black_box(&text), &listing).expect("the token just made"));
    });
    group.finish();
}

/// Makes a status from an error: code, message and details.
fn status(criterion: &mut Criterion) {
    let at = At {
        registry: "registry.example:5000".to_owned(),
        repository: Some("org/team/app".to_owned()),
        http_status: Some(404),
        oci_code: Some("MANIFEST_UNKNOWN".to_owned()),
    };
    let errors = [
        (
            "not found",
            RexError::NotFound { at: at.clone(), missing: Missing::Manifest, name: "v1.2.3".to_owned() },
        ),
        ("rate limit", RexError::RateLimit { at, retry_after: Some(Duration::from_secs(3)) }),
        ("invalid argument", RexError::invalid("repository", "must be lower case")),
    ];
    let mut group = criterion.benchmark_group("status");
    for (name, error) in errors {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(|| error.clone(), Status::from, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(parts, frame, verifier, page_token, status);
criterion_main!(parts);
