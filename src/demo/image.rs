//! Images as documents: configuration, manifest and index, in OCI's media types or in Docker's.
//!
//! [image-spec] v1.1 and Docker's ["Image Manifest Version 2, Schema 2"] have the same fields and differ in their
//! media types. A [`Family`] value decides which of the two is written.
//!
//! [image-spec]: https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md
//! ["Image Manifest Version 2, Schema 2"]: https://distribution.github.io/distribution/spec/manifest-v2-2/

use bytes::Bytes;
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, HistoryBuilder, ImageConfigurationBuilder, ImageIndexBuilder,
    ImageManifestBuilder, MediaType, Os, Platform, PlatformBuilder, RootFsBuilder, SCHEMA_VERSION,
};
use serde::Serialize;

use super::{
    layer::Layer,
    sample::{SampleError, SampleRepository},
};

/// The `created` time of every image.
const CREATED: &str = "2024-01-01T00:00:00Z";

/// The family of media types that a document uses.
#[derive(Clone, Copy, Debug)]
pub(super) enum Family {
    Oci,
    Docker,
}

impl Family {
    pub(super) fn manifest(self) -> MediaType {
        match self {
            Self::Oci => MediaType::ImageManifest,
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json".into(),
        }
    }

    fn index(self) -> MediaType {
        match self {
            Self::Oci => MediaType::ImageIndex,
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json".into(),
        }
    }

    fn config(self) -> MediaType {
        match self {
            Self::Oci => MediaType::ImageConfig,
            Self::Docker => "application/vnd.docker.container.image.v1+json".into(),
        }
    }

    fn layer(self) -> MediaType {
        match self {
            Self::Oci => MediaType::ImageLayerGzip,
            Self::Docker => "application/vnd.docker.image.rootfs.diff.tar.gzip".into(),
        }
    }
}

/// A Linux platform. An image's index entry and its configuration name the same one.
pub(super) fn linux(architecture: Arch, variant: Option<&str>) -> Result<Platform, SampleError> {
    let platform = PlatformBuilder::default().os(Os::Linux).architecture(architecture);
    Ok(match variant {
        Some(variant) => platform.variant(variant),
        None => platform,
    }
    .build()?)
}

/// Stores an image – layers, configuration and manifest – and describes its manifest, the platform included.
pub(super) fn add_image(
    repository: &mut SampleRepository,
    family: Family,
    platform: &Platform,
    layers: &[Layer],
) -> Result<Descriptor, SampleError> {
    let config = repository.add_blob(family.config(), configuration(platform, layers)?)?;
    let layers = layers
        .iter()
        .map(|layer| repository.add_blob(family.layer(), layer.blob.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(family.manifest())
        .config(config)
        .layers(layers)
        .build()?;
    let mut descriptor = repository.add_manifest(family.manifest(), document(&manifest)?)?;
    descriptor.set_platform(Some(platform.clone()));
    Ok(descriptor)
}

/// Stores an index – Docker calls it a manifest list – of `images` and describes it.
pub(super) fn add_index(
    repository: &mut SampleRepository,
    family: Family,
    images: Vec<Descriptor>,
) -> Result<Descriptor, SampleError> {
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(family.index())
        .manifests(images)
        .build()?;
    repository.add_manifest(family.index(), document(&index)?)
}

/// The exact bytes of a document: JSON on several lines, as most builders write it.
pub(super) fn document(value: &impl Serialize) -> Result<Bytes, SampleError> {
    Ok(serde_json::to_vec_pretty(value)?.into())
}

fn configuration(platform: &Platform, layers: &[Layer]) -> Result<Bytes, SampleError> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let history = HistoryBuilder::default().created(CREATED).created_by("rexd demo").build()?;
    let process = ConfigBuilder::default()
        .env(["PATH=/usr/bin:/bin".to_owned()])
        .entrypoint(["/app/hello".to_owned()])
        .working_dir("/app")
        .build()?;
    let configuration = ImageConfigurationBuilder::default()
        .created(CREATED)
        .architecture(platform.architecture().clone())
        .os(platform.os().clone())
        .config(process)
        .history(vec![history; diff_ids.len()])
        .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build()?);
    let configuration = match platform.variant() {
        Some(variant) => configuration.variant(variant.clone()),
        None => configuration,
    };
    document(&configuration.build()?)
}
