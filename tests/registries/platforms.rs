//! `platform`: from an index to the manifest for it, and indexes with wrong entries.

use serde_json::Value;
use tonic::Code;

use crate::{
    MANIFEST_TARGET, OCI_INDEX, OCI_MANIFEST, Setting, document, image, index, sha256,
    support::status::Failure,
};

/// A setting whose `v1` is this index, and that also has these documents.
async fn with(index: &Value, documents: &[(&str, &str)]) -> Setting {
    let setting = Setting::new().await;
    setting.registry.always("GET", MANIFEST_TARGET, document(OCI_INDEX, &index.to_string()));
    for (media_type, content) in documents {
        let target = format!("/v2/org/app/manifests/{}", sha256(content.as_bytes()));
        setting.registry.always("GET", &target, document(media_type, content));
    }
    setting
}

async fn fails(setting: &mut Setting, platform: &str, code: Code, reason: &str) -> Failure {
    let status = setting.manifest(platform).await.unwrap_err();
    Failure::expect(status, code, reason, platform)
}

#[tokio::test]
async fn the_best_matching_entry_is_picked() {
    let names =
        ["linux/amd64", "linux/arm64/v8", "linux/arm/v7", "linux/arm/v6", "windows/amd64", "linux/386"];
    let images: Vec<String> = names.iter().map(|name| image(name)).collect();
    let attestation = image("attestation");
    let mut entries = vec![(OCI_MANIFEST, attestation.as_str(), "unknown/unknown")];
    entries.extend(names.iter().zip(&images).map(|(name, image)| (OCI_MANIFEST, image.as_str(), *name)));
    let index = index(&entries);
    let documents: Vec<(&str, &str)> = images.iter().map(|image| (OCI_MANIFEST, image.as_str())).collect();
    let mut setting = with(&index, &documents).await;
    for (platform, picked) in [
        ("linux/amd64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64"),
        ("Linux/x86_64", "linux/amd64"),
        ("linux/arm64", "linux/arm64/v8"),
        ("linux/arm64/v8", "linux/arm64/v8"),
        ("linux/aarch64", "linux/arm64/v8"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/arm/v8", "linux/arm/v7"),
        ("linux/i386", "linux/386"),
        ("windows/amd64", "windows/amd64"),
    ] {
        let manifest = setting.manifest(platform).await.unwrap();
        assert_eq!(manifest.content, image(picked), "{platform}");
        let origin = manifest.index.unwrap();
        assert_eq!(
            (origin.media_type.as_str(), origin.digest),
            (OCI_INDEX, sha256(index.to_string().as_bytes()))
        );
    }
    assert!(setting.registry.unexpected().is_empty());
}

#[tokio::test]
async fn a_32_bit_entry_is_picked_for_its_64_bit_platform_when_nothing_else_matches() {
    let (arm, x86) = (image("arm"), image("386"));
    let index = index(&[(OCI_MANIFEST, &arm, "linux/arm/v6"), (OCI_MANIFEST, &x86, "linux/386")]);
    let mut setting = with(&index, &[(OCI_MANIFEST, &arm), (OCI_MANIFEST, &x86)]).await;
    assert_eq!(setting.manifest("linux/arm64").await.unwrap().content, arm);
    assert_eq!(setting.manifest("linux/amd64").await.unwrap().content, x86);
}

#[tokio::test]
async fn no_match_is_not_found_and_names_the_platform() {
    let arm = image("arm");
    let index = index(&[(OCI_MANIFEST, &arm, "linux/arm64"), (OCI_MANIFEST, &arm, "")]);
    let mut setting = with(&index, &[]).await;
    for platform in ["linux/s390x", "windows/arm64", "linux/amd64", "linux/arm/v7"] {
        let failure = fails(&mut setting, platform, Code::NotFound, "MANIFEST_UNKNOWN").await;
        assert!(failure.status.message().contains(platform), "{:?}", failure.status);
    }
    assert!(setting.registry.unexpected().is_empty(), "no entry is requested");
}

#[tokio::test]
async fn a_nested_index_is_resolved_and_the_outer_index_is_reported() {
    let leaf = image("leaf");
    let inner = index(&[(OCI_MANIFEST, &leaf, "linux/amd64")]).to_string();
    let outer = index(&[(OCI_INDEX, &inner, "linux/amd64")]);
    let mut setting = with(&outer, &[(OCI_INDEX, &inner), (OCI_MANIFEST, &leaf)]).await;
    let manifest = setting.manifest("linux/amd64").await.unwrap();
    assert_eq!(manifest.content, leaf);
    assert_eq!(manifest.index.unwrap().digest, sha256(outer.to_string().as_bytes()));
}

#[tokio::test]
async fn indexes_nested_too_deeply_are_an_error() {
    let mut documents = vec![index(&[]).to_string()];
    for _ in 0..10 {
        let inner = documents.last().unwrap();
        documents.push(index(&[(OCI_INDEX, inner, "linux/amd64")]).to_string());
    }
    let outer: Value = serde_json::from_str(&documents.pop().unwrap()).unwrap();
    let documents: Vec<(&str, &str)> = documents.iter().map(|inner| (OCI_INDEX, inner.as_str())).collect();
    let mut setting = with(&outer, &documents).await;
    fails(&mut setting, "linux/amd64", Code::Internal, "REGISTRY_INVALID_RESPONSE").await;
    assert!(setting.registry.requests().len() <= 6);
}

#[tokio::test]
async fn an_index_with_a_wrong_size_is_data_loss() {
    let leaf = image("leaf");
    for lie in [0, 1, leaf.len() as u64 + 1, u64::from(u32::MAX)] {
        let mut index = index(&[(OCI_MANIFEST, &leaf, "linux/amd64")]);
        index["manifests"][0]["size"] = lie.into();
        let mut setting = with(&index, &[(OCI_MANIFEST, &leaf)]).await;
        fails(&mut setting, "linux/amd64", Code::DataLoss, "DIGEST_MISMATCH").await;
    }
}

#[tokio::test]
async fn an_entry_with_other_content_is_data_loss() {
    let (listed, received) = (image("listed"), image("received"));
    let index = index(&[(OCI_MANIFEST, &listed, "linux/amd64")]);
    let mut setting = with(&index, &[]).await;
    let target = format!("/v2/org/app/manifests/{}", sha256(listed.as_bytes()));
    setting.registry.on("GET", &target, [document(OCI_MANIFEST, &received)]);
    fails(&mut setting, "linux/amd64", Code::DataLoss, "DIGEST_MISMATCH").await;
}

#[tokio::test]
async fn a_malformed_digest_in_an_index_never_becomes_a_path() {
    let leaf = image("leaf");
    for digest in ["sha256:../../../admin", "sha256:aa", "../x", "sha384:x"] {
        let mut index = index(&[(OCI_MANIFEST, &leaf, "linux/amd64")]);
        index["manifests"][0]["digest"] = digest.into();
        let mut setting = with(&index, &[]).await;
        fails(&mut setting, "linux/amd64", Code::Internal, "REGISTRY_INVALID_RESPONSE").await;
        assert_eq!(setting.registry.requests().len(), 1, "{digest}");
    }
}

#[tokio::test]
async fn a_platform_is_ignored_when_the_reference_is_not_an_index() {
    let mut setting = Setting::new().await;
    setting.registry.on("GET", MANIFEST_TARGET, [document(OCI_MANIFEST, &image("a"))]);
    let manifest = setting.manifest("linux/s390x").await.unwrap();
    assert!(manifest.content == image("a") && manifest.index.is_none());
}
