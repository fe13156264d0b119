//! The content of `rexd demo`: four repositories, one for each kind of content that a registry client has to handle.
//!
//! It is deterministic: every start on every machine has the same digests.

use bytes::Bytes;
use flate2::Compression;
use oci_spec::image::{Arch, Descriptor, ImageManifestBuilder, MediaType, Platform, SCHEMA_VERSION};

use super::{
    image::{Family, add_image, add_index, document, linux},
    layer::{File, Layer, noise},
    sample::{Sample, SampleError},
};

/// An image for linux/amd64 and linux/arm64/v8 behind one OCI index, tags `v1` and `latest`. Each image has a small
/// layer of its own and shares one of a little more than 8 MiB.
pub const APP: &str = "sample/app";

/// An artifact whose subject is the index of [`APP`], tag `v1`.
pub const SBOM: &str = "sample/sbom";

/// A Docker schema 2 image, tag `v1`, and a Docker manifest list, tag `list`.
pub const DOCKER: &str = "sample/docker";

/// [`MANY_TAGS`] tags, from `v0.0` to `v24.9`, on one small image.
pub const MANY: &str = "sample/many";

/// The number of tags of [`MANY`]: more than two of the sample registry's largest pages.
pub const MANY_TAGS: usize = 250;

/// Bytes of noise in the large layer: many times what socket buffers hold, so that back-pressure, cancelling and
/// resuming can be seen, and still made within a moment.
const LARGE: usize = 8 * 1024 * 1024;

impl Sample {
    /// Makes the content of `rexd demo`: [`APP`], [`SBOM`], [`DOCKER`] and [`MANY`], about 8.4 MB in all.
    ///
    /// It hashes and packs for some tens of milliseconds without yielding, and reads nothing from outside.
    ///
    /// # Errors
    ///
    /// [`SampleError`] if a layer or document could not be written to memory.
    pub fn generate() -> Result<Self, SampleError> {
        let mut sample = Self::default();
        let amd64 = linux(Arch::Amd64, None)?;
        let arm64 = linux(Arch::ARM64, Some("v8"))?;
        let app = add_app(&mut sample, [&amd64, &arm64])?;
        add_sbom(&mut sample, app)?;
        add_docker(&mut sample, &amd64, &arm64)?;
        add_many(&mut sample, &amd64)?;
        Ok(sample)
    }
}

fn add_app(sample: &mut Sample, platforms: [&Platform; 2]) -> Result<Descriptor, SampleError> {
    let repository = sample.repository_mut(APP);
    let data = File { path: "app/data.bin", mode: 0o644, content: &noise(1, LARGE) };
    // Noise cannot be compressed. Storing it uncompressed makes the start fast.
    let data = Layer::pack(&[data], Compression::none())?;
    let mut images = Vec::new();
    for platform in platforms {
        let layers = [greeting(platform)?, data.clone()];
        images.push(add_image(repository, Family::Oci, platform, &layers)?);
    }
    let index = add_index(repository, Family::Oci, images)?;
    repository.tag("v1", index.digest());
    repository.tag("latest", index.digest());
    Ok(index)
}

/// An artifact as [image-spec, manifest.md, "Guidelines for Artifact Usage"] wants it: the empty configuration, a type,
/// and the subject it is about.
///
/// [image-spec, manifest.md, "Guidelines for Artifact Usage"]: https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#guidelines-for-artifact-usage
fn add_sbom(sample: &mut Sample, subject: Descriptor) -> Result<(), SampleError> {
    let repository = sample.repository_mut(SBOM);
    let spdx = document(&serde_json::json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": APP,
        "documentNamespace": "https://example.com/spdx/sample/app",
        "creationInfo": { "created": "2024-01-01T00:00:00Z", "creators": ["Tool: rexd"] },
        "packages": [],
    }))?;
    let layer = repository.add_blob("application/spdx+json".into(), spdx)?;
    let config = repository.add_blob(MediaType::EmptyJSON, Bytes::from_static(b"{}"))?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .artifact_type("application/spdx+json")
        .config(config)
        .layers([layer])
        .subject(subject)
        .build()?;
    let artifact = repository.add_manifest(MediaType::ImageManifest, document(&manifest)?)?;
    repository.tag("v1", artifact.digest());
    Ok(())
}

fn add_docker(sample: &mut Sample, amd64: &Platform, arm64: &Platform) -> Result<(), SampleError> {
    let repository = sample.repository_mut(DOCKER);
    let first = add_image(repository, Family::Docker, amd64, &[greeting(amd64)?])?;
    let second = add_image(repository, Family::Docker, arm64, &[greeting(arm64)?])?;
    repository.tag("v1", first.digest());
    let list = add_index(repository, Family::Docker, vec![first, second])?;
    repository.tag("list", list.digest());
    Ok(())
}

fn add_many(sample: &mut Sample, platform: &Platform) -> Result<(), SampleError> {
    let repository = sample.repository_mut(MANY);
    let image = add_image(repository, Family::Oci, platform, &[greeting(platform)?])?;
    for number in 0..MANY_TAGS {
        repository.tag(format!("v{}.{}", number / 10, number % 10), image.digest());
    }
    Ok(())
}

/// The small layer of an image: a script that says what it was built for, and the file that names the system.
fn greeting(platform: &Platform) -> Result<Layer, SampleError> {
    let script = format!("#!/bin/sh\necho \"hello from {}/{}\"\n", platform.os(), platform.architecture());
    let files = [
        File { path: "app/hello", mode: 0o755, content: script.as_bytes() },
        File {
            path: "etc/os-release",
            mode: 0o644,
            content: b"ID=sample\nNAME=\"rexd sample\"\nVERSION_ID=1\n",
        },
    ];
    Layer::pack(&files, Compression::default())
}
