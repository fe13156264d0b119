//! Reproducible image layers: a tar archive in gzip, as [image-spec, layer.md] describes it.
//!
//! A layer does not depend on the machine's clock, user or byte order, so every run has the same digests.
//!
//! [image-spec, layer.md]: https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md

use std::io::{self, Write};

use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use oci_spec::image::Digest;

use super::sample::{SampleError, sha256};

/// The modification time of every file: 2024-01-01T00:00:00Z in seconds.
const MODIFIED: u64 = 1_704_067_200;

/// A layer as a registry stores it, and the digest that a configuration lists for it.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// The compressed archive.
    pub(super) blob: Bytes,
    /// The digest of the archive before compression, the `diff_ids` entry of an image configuration.
    pub(super) diff_id: Digest,
}

/// One regular file of a layer.
#[derive(Debug)]
pub(super) struct File<'a> {
    /// Where it is, relative to the root.
    pub(super) path: &'a str,
    /// Its permissions.
    pub(super) mode: u32,
    /// Its bytes.
    pub(super) content: &'a [u8],
}

impl Layer {
    /// Packs `files`, in the given order, with the given compression.
    pub(super) fn pack(files: &[File<'_>], compression: Compression) -> Result<Self, SampleError> {
        let archive = archive(files).map_err(SampleError::Layer)?;
        let diff_id = sha256(&archive)?;
        // By default, GzBuilder writes neither a name nor a time.
        let mut gzip = GzBuilder::new().write(Vec::with_capacity(archive.len() / 2), compression);
        gzip.write_all(&archive).map_err(SampleError::Layer)?;
        let blob = gzip.finish().map_err(SampleError::Layer)?.into();
        Ok(Self { blob, diff_id })
    }
}

fn archive(files: &[File<'_>]) -> io::Result<Vec<u8>> {
    let size: usize = files.iter().map(|file| file.content.len() + 2 * 512).sum();
    let mut builder = tar::Builder::new(Vec::with_capacity(size + 1024));
    for file in files {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(file.mode);
        header.set_mtime(MODIFIED);
        header.set_size(file.content.len() as u64);
        builder.append_data(&mut header, file.path, file.content)?;
    }
    builder.into_inner()
}

/// Generates `length` bytes, a multiple of 8, that cannot be compressed and are the same on every machine: xorshift64*,
/// George Marsaglia, "Xorshift RNGs" (2003), with Sebastiano Vigna's multiplier.
///
/// `rand` is not used, because its output may change between versions, and the digests must not change with a dependency.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    // The state must not be zero, because xorshift never leaves it.
    let mut state = seed.max(1);
    let mut bytes = vec![0; length];
    let (words, _) = bytes.as_chunks_mut();
    for word in words {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        *word = state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
    }
    bytes
}
