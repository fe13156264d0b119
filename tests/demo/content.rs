//! The content of the sample registry.

use std::io::Read;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use rexd::demo::{APP, DOCKER, SBOM, Sample};

use crate::{
    get, header, json, large_blob, sha256,
    support::{demo_registry, sample},
};

#[tokio::test]
async fn every_document_and_blob_hashes_to_the_digest_that_names_it() {
    let registry = demo_registry().await;
    let address = registry.address();
    let fetch = async |repository: &str, kind: &str, descriptor: &Descriptor| {
        let response = get(address, &format!("/v2/{repository}/{kind}/{}", descriptor.digest())).await;
        assert_eq!(header(&response, "docker-content-digest"), descriptor.digest().as_ref());
        let content = response.bytes().await.unwrap();
        assert_eq!(content.len() as u64, descriptor.size());
        assert_eq!(sha256(&content), descriptor.digest().as_ref());
        content
    };
    for (repository, tag) in [(APP, "v1"), (APP, "latest"), (DOCKER, "list")] {
        let response = get(address, &format!("/v2/{repository}/manifests/{tag}")).await;
        let (digest, media_type) = (
            header(&response, "docker-content-digest").to_owned(),
            header(&response, "content-type").to_owned(),
        );
        let content = response.bytes().await.unwrap();
        assert_eq!(sha256(&content), digest);
        let index = ImageIndex::from_reader(&content[..]).unwrap();
        assert_eq!(index.media_type().as_ref().unwrap().as_ref(), media_type);
        let platforms: Vec<_> =
            index.manifests().iter().map(|image| image.platform().as_ref().unwrap()).collect();
        assert_eq!(platforms[0].architecture().to_string(), "amd64");
        assert_eq!(platforms[1].architecture().to_string(), "arm64");
        assert_eq!(platforms[1].variant().as_deref(), Some("v8"));
        for image in index.manifests() {
            let manifest = fetch(repository, "manifests", image).await;
            let manifest = ImageManifest::from_reader(&manifest[..]).unwrap();
            let config = fetch(repository, "blobs", manifest.config()).await;
            let config = ImageConfiguration::from_reader(&config[..]).unwrap();
            assert_eq!(
                Some(config.architecture()),
                image.platform().as_ref().map(|platform| platform.architecture())
            );
            let mut diff_ids = Vec::new();
            for layer in manifest.layers() {
                let mut archive = Vec::new();
                let blob = fetch(repository, "blobs", layer).await;
                flate2::read::GzDecoder::new(&blob[..]).read_to_end(&mut archive).unwrap();
                assert!(tar::Archive::new(&archive[..]).entries().unwrap().all(|entry| entry.is_ok()));
                diff_ids.push(sha256(&archive));
            }
            assert_eq!(config.rootfs().diff_ids(), &diff_ids);
        }
    }
    assert!(large_blob().1.len() > 8 * 1024 * 1024);
}

#[tokio::test]
async fn docker_images_carry_dockers_media_types() {
    let registry = demo_registry().await;
    for (tag, media_type) in [
        ("v1", "application/vnd.docker.distribution.manifest.v2+json"),
        ("list", "application/vnd.docker.distribution.manifest.list.v2+json"),
    ] {
        let response = get(registry.address(), &format!("/v2/{DOCKER}/manifests/{tag}")).await;
        assert_eq!(header(&response, "content-type"), media_type);
        assert_eq!(json(response).await["mediaType"], media_type);
    }
}

#[tokio::test]
async fn the_subject_of_the_artifact_is_the_index_of_the_app() {
    let registry = demo_registry().await;
    let response = get(registry.address(), &format!("/v2/{SBOM}/manifests/v1")).await;
    let artifact = ImageManifest::from_reader(&response.bytes().await.unwrap()[..]).unwrap();
    let app = sample().repository(APP).unwrap().manifest("v1").unwrap().descriptor().clone();
    assert_eq!(artifact.artifact_type().as_ref().unwrap().as_ref(), "application/spdx+json");
    assert_eq!(artifact.subject().as_ref(), Some(&app));
}

#[test]
fn two_samples_have_the_same_digests() {
    let (first, second) = (sample(), Sample::generate().unwrap());
    for name in first.repositories() {
        let [first, second] = [&first, &second].map(|sample| sample.repository(name).unwrap());
        for tag in first.tags() {
            assert_eq!(first.manifest(tag).unwrap().descriptor(), second.manifest(tag).unwrap().descriptor());
        }
    }
}
