//! The content of the sample registry: repositories of tags, manifests and blobs, in memory.
//!
//! Everything is stored under the digest of its exact bytes, as [image-spec, descriptor.md, "Digests"] requires. A test can
//! compare the bytes that the service sent with the bytes stored here.
//!
//! [image-spec, descriptor.md, "Digests"]: https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#digests

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    io,
};

use bytes::Bytes;
use oci_spec::{
    OciSpecError,
    image::{Descriptor, Digest, MediaType},
};
use sha2::{Digest as _, Sha256};

/// Why sample content could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// Packing a layer failed.
    #[error("packing a sample layer failed")]
    Layer(#[source] io::Error),
    /// A manifest, an index or a configuration is not complete.
    #[error("a sample document is not valid")]
    Document(#[from] OciSpecError),
    /// A manifest, an index or a configuration could not be written as JSON.
    #[error("a sample document could not be serialised")]
    Serialise(#[from] serde_json::Error),
}

/// The content of a sample registry.
///
/// [`Sample::generate`] makes the content of `rexd demo`. [`Sample::default`] is empty, for tests that add their own
/// content.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    repositories: BTreeMap<String, SampleRepository>,
}

impl Sample {
    /// The names of the repositories, in lexical order, as the catalog lists them.
    pub fn repositories(&self) -> impl Iterator<Item = &str> {
        self.repositories.keys().map(String::as_str)
    }

    /// The repository of that name.
    pub fn repository(&self, name: &str) -> Option<&SampleRepository> {
        self.repositories.get(name)
    }

    /// The repository of that name, to add content to. It is created if it does not exist.
    pub fn repository_mut(&mut self, name: &str) -> &mut SampleRepository {
        self.repositories.entry(name.to_owned()).or_default()
    }
}

/// One repository of a [`Sample`].
#[derive(Clone, Debug, Default)]
pub struct SampleRepository {
    tags: BTreeMap<String, Digest>,
    manifests: HashMap<Digest, SampleManifest>,
    blobs: HashMap<Digest, Bytes>,
}

impl SampleRepository {
    /// The tags in lexical order, as the specification orders them.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.tags.keys().map(String::as_str)
    }

    /// The manifest that `reference`, a tag or a digest, names.
    pub fn manifest(&self, reference: &str) -> Option<&SampleManifest> {
        match self.tags.get(reference) {
            Some(digest) => self.manifests.get(digest),
            None => self.manifests.get(&reference.parse::<Digest>().ok()?),
        }
    }

    /// The bytes of the blob with that digest.
    pub fn blob(&self, digest: &Digest) -> Option<&Bytes> {
        self.blobs.get(digest)
    }

    /// All blobs with their digests, in no particular order.
    pub fn blobs(&self) -> impl Iterator<Item = (&Digest, &Bytes)> {
        self.blobs.iter()
    }

    /// Stores a blob and describes it.
    ///
    /// # Errors
    ///
    /// [`SampleError::Document`] if the digest cannot be parsed. This cannot happen with SHA-256.
    pub fn add_blob(&mut self, media_type: MediaType, content: Bytes) -> Result<Descriptor, SampleError> {
        let descriptor = describe(media_type, &content)?;
        self.blobs.insert(descriptor.digest().clone(), content);
        Ok(descriptor)
    }

    /// Stores a manifest of any kind without parsing it, and describes it.
    ///
    /// # Errors
    ///
    /// As [`SampleRepository::add_blob`].
    pub fn add_manifest(&mut self, media_type: MediaType, content: Bytes) -> Result<Descriptor, SampleError> {
        let descriptor = describe(media_type, &content)?;
        let manifest = SampleManifest { descriptor: descriptor.clone(), content };
        self.manifests.insert(descriptor.digest().clone(), manifest);
        Ok(descriptor)
    }

    /// Points `tag` to the manifest of that digest.
    pub fn tag(&mut self, tag: impl Into<String>, digest: &Digest) {
        self.tags.insert(tag.into(), digest.clone());
    }
}

/// A manifest as stored: an image manifest, an index, a Docker manifest or a Docker manifest list.
#[derive(Clone, Debug)]
pub struct SampleManifest {
    descriptor: Descriptor,
    content: Bytes,
}

impl SampleManifest {
    /// Media type, digest and size.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The exact bytes that the digest describes.
    pub fn content(&self) -> &Bytes {
        &self.content
    }
}

fn describe(media_type: MediaType, content: &Bytes) -> Result<Descriptor, SampleError> {
    Ok(Descriptor::new(media_type, content.len() as u64, sha256(content)?))
}

/// The SHA-256 digest of `content`, as `sha256:` and 64 lowercase hexadecimal digits.
pub(super) fn sha256(content: &[u8]) -> Result<Digest, OciSpecError> {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(content) {
        // Writing to a String never fails.
        let _ = write!(text, "{byte:02x}");
    }
    text.parse()
}
