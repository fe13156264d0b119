//! The other fields: references, digests, platforms, media types and numbers.

use rexd::grpc::proto::{GetManifestRequest, ListCatalogRequest, ListTagsRequest, StreamBlobRequest};

use crate::{
    REGISTRY, Setting,
    support::call::{Call, EMPTY_DIGEST},
};

fn manifest(change: impl FnOnce(&mut GetManifestRequest)) -> Call {
    let mut request = GetManifestRequest {
        registry: REGISTRY.to_owned(),
        repository: "org/app".to_owned(),
        reference: "v1".to_owned(),
        ..GetManifestRequest::default()
    };
    change(&mut request);
    Call::Manifest(request)
}

fn blob(change: impl FnOnce(&mut StreamBlobRequest)) -> Call {
    let mut request = StreamBlobRequest {
        registry: REGISTRY.to_owned(),
        repository: "org/app".to_owned(),
        digest: EMPTY_DIGEST.to_owned(),
        ..StreamBlobRequest::default()
    };
    change(&mut request);
    Call::Blob(request)
}

/// Malformed digests: of the wrong length, case, algorithm or alphabet.
fn wrong_digests() -> Vec<String> {
    let hex = "a".repeat(64);
    vec![
        format!("sha256:{}", "a".repeat(63)),
        format!("sha256:{}", "a".repeat(65)),
        format!("sha256:{}", "A".repeat(64)),
        format!("sha256:{}", "g".repeat(64)),
        format!("sha256:{}", "ä".repeat(32)),
        format!("sha256:{}\0", "a".repeat(63)),
        format!("sha256:{}\r\n", "a".repeat(62)),
        format!("sha256:../{}", "a".repeat(61)),
        format!("sha256: {}", "a".repeat(63)),
        format!("sha512:{hex}"),
        format!("SHA256:{hex}"),
        format!("sha384:{}", "a".repeat(96)),
        format!("md5:{}", "a".repeat(32)),
        format!("sha256+b64:{hex}"),
        format!("sha256:sha256:{hex}"),
        format!(":{hex}"),
        "sha256:".to_owned(),
        ":".to_owned(),
        format!("sha256:{}", "a".repeat(30_000)),
    ]
}

#[tokio::test]
async fn a_malformed_digest_is_invalid_as_digest_and_as_reference() {
    let mut setting = Setting::new(false).await;
    for digest in wrong_digests() {
        setting.refuses_field("reference", [manifest(|request| request.reference = digest.clone())]).await;
        setting.refuses_field("digest", [blob(|request| request.digest = digest)]).await;
    }
    for not_a_digest in [String::new(), "v1".to_owned(), "a".repeat(64)] {
        setting.refuses_field("digest", [blob(|request| request.digest = not_a_digest)]).await;
    }
}

#[tokio::test]
async fn a_malformed_tag_is_invalid() {
    let mut setting = Setting::new(false).await;
    let too_long = "a".repeat(129);
    for reference in [
        "", &too_long, ".a", "-a", "a/b", "../a", "a b", "a%2e", "a\0", "a\r\n", "ä", "a+b", "a@b", "a?b",
        "a#b", "..", "a~b",
    ] {
        let call = manifest(|request| request.reference = reference.to_owned());
        setting.refuses_field("reference", [call]).await;
    }
}

#[tokio::test]
async fn a_malformed_platform_is_invalid() {
    let mut setting = Setting::new(false).await;
    let too_long = format!("linux/{}", "a".repeat(33));
    for platform in [
        "linux",
        "/",
        "linux/",
        "/amd64",
        "linux//v8",
        "linux/arm64/v8/x",
        "linux/arm64/",
        " linux/amd64",
        "linux/a b",
        "linux/\0",
        "linux/amd64\r\n",
        "linux/ä",
        "linux,amd64",
        &too_long,
    ] {
        let call = manifest(|request| request.platform = platform.to_owned());
        setting.refuses_field("platform", [call]).await;
    }
}

#[tokio::test]
async fn malformed_or_too_many_media_types_are_invalid() {
    let mut setting = Setting::new(false).await;
    let fine = "application/vnd.oci.image.index.v1+json".to_owned();
    let seventeen = vec![fine.clone(); 17];
    let too_long = vec![format!("application/{}", "a".repeat(250))];
    let among_fine_ones =
        ["", "json", "application/", "/json", "a/b/c", "a/b; q=1", "a/b, c/d", "a b/c", "a/b\0", "a/ä"]
            .map(|wrong| vec![fine.clone(), wrong.to_owned()]);
    let injections = ["a/b\r\nAuthorization: Basic x", "a/b\nX: y", "a/b\r", "\r\na/b"]
        .map(|wrong| vec![wrong.to_owned()]);
    let lists = among_fine_ones.into_iter().chain(injections).chain([seventeen, too_long]);
    for list in lists {
        let call = manifest(|request| request.accept_media_types = list);
        setting.refuses_field("accept_media_types", [call]).await;
    }
}

#[tokio::test]
async fn a_negative_number_is_invalid_in_every_number_field() {
    let mut setting = Setting::new(false).await;
    for number in [-1, i32::MIN] {
        let catalog = ListCatalogRequest {
            registry: REGISTRY.to_owned(),
            page_size: number,
            ..ListCatalogRequest::default()
        };
        let tags = ListTagsRequest {
            registry: REGISTRY.to_owned(),
            repository: "org/app".to_owned(),
            page_size: number,
            ..ListTagsRequest::default()
        };
        setting.refuses_field("page_size", [Call::Catalog(catalog), Call::Tags(tags)]).await;
        setting.refuses_field("max_chunk_bytes", [blob(|request| request.max_chunk_bytes = number)]).await;
    }
    for number in [-1, i64::MIN] {
        setting.refuses_field("offset", [blob(|request| request.offset = number)]).await;
        setting.refuses_field("limit", [blob(|request| request.limit = number)]).await;
    }
}
