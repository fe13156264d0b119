//! Pieces of a bucket's objects: read once for all readers of this replica, and compared with hashes that it has made itself.
//!
//! Others can write a bucket, and can make checksums that match. Whoever has read a whole blob, and found that its digest
//! matches, leaves the hashes of the pieces here. From then on each piece is verified by itself, so ranges are verified too.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use moka::{future::Cache, policy::EvictionPolicy};
use sha2::{Digest as _, Sha256};

use super::failure::Failure;
use crate::oci::Digest;

/// The most bytes of pieces that wait for another reader. Readers that began together read the same pieces at about the same
/// time.
const RECENT_BYTES: u64 = 16 << 20;
/// For how long a piece waits for another reader.
const RECENT: Duration = Duration::from_secs(5);
/// The most bytes of hashes: those of 64 GiB of blobs.
const HASHES_BYTES: u64 = 2 << 20;
/// What an entry takes besides its hashes.
const ENTRY_BYTES: usize = 512;

/// The SHA-256 of a piece.
pub(super) type PieceHash = [u8; 32];

/// A piece as it is in the bucket.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) content: Bytes,
    pub(super) hash: PieceHash,
}

/// The hashes of all pieces of a blob whose digest matched.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) size: u64,
    pub(super) hashes: Vec<PieceHash>,
}

/// What readers of the bucket share.
#[derive(Debug)]
pub(super) struct Pieces {
    recent: Cache<(Digest, u64), Piece>,
    verified: Cache<Digest, Arc<Verified>>,
}

impl Pieces {
    pub(super) fn new() -> Self {
        let bytes = |length: usize| u32::try_from(length + ENTRY_BYTES).unwrap_or(u32::MAX);
        Self {
            recent: Cache::builder()
                .max_capacity(RECENT_BYTES)
                .weigher(move |_, piece: &Piece| bytes(piece.content.len()))
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(RECENT)
                .build(),
            verified: Cache::builder()
                .max_capacity(HASHES_BYTES)
                .weigher(move |_, verified: &Arc<Verified>| bytes(size_of_val(&*verified.hashes)))
                .build(),
        }
    }

    /// Piece `index`. All who ask for it at about the same time share one read, which any of them can go on with.
    pub(super) async fn get(
        &self,
        digest: &Digest,
        index: u64,
        read: impl Future<Output = Result<Bytes, Failure>>,
    ) -> Result<Piece, Failure> {
        let hashed = async {
            let content = read.await?;
            let hash = Sha256::digest(&content).into();
            Ok(Piece { content, hash })
        };
        let piece = self.recent.try_get_with((digest.clone(), index), hashed).await;
        piece.map_err(|failure: Arc<Failure>| (*failure).clone())
    }

    /// The hashes of the pieces of a blob whose digest matched.
    pub(super) async fn verified(&self, digest: &Digest) -> Option<Arc<Verified>> {
        self.verified.get(digest).await
    }

    /// Keeps the hashes of the pieces of a blob whose digest matched.
    pub(super) async fn keep_verified(&self, digest: &Digest, verified: Verified) {
        self.verified.insert(digest.clone(), Arc::new(verified)).await;
    }

    /// Forgets the pieces that wait for another reader: the object is damaged, and is deleted.
    pub(super) async fn forget(&self, digest: &Digest) {
        for (key, _) in &self.recent {
            if key.0 == *digest {
                self.recent.invalidate(&*key).await;
            }
        }
    }
}
