//! The responses of the sample registry.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use rexd::demo::{APP, DOCKER, DemoRegistry, MANY, MANY_TAGS, SBOM, Sample};

use crate::{
    get, header, json, large_blob, request,
    support::{demo_registry, listen},
};

/// Follows `Link` to the end and returns the pages.
async fn pages(address: SocketAddr, first: &str, key: &str) -> Vec<Vec<String>> {
    let mut target = first.to_owned();
    let mut pages = Vec::new();
    loop {
        let response = get(address, &target).await;
        assert_eq!(response.status(), StatusCode::OK, "{target}");
        let link = header(&response, "link").to_owned();
        let names = json(response).await[key].as_array().unwrap().clone();
        pages.push(names.iter().map(|name| name.as_str().unwrap().to_owned()).collect());
        match link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")) {
            Some(next) => target = next.to_owned(),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn the_base_endpoint_names_the_api_version() {
    let registry = demo_registry().await;
    let response = get(registry.address(), "/v2/").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
}

#[tokio::test]
async fn the_catalog_comes_in_pages_in_lexical_order() {
    let registry = demo_registry().await;
    let pages = pages(registry.address(), "/v2/_catalog?n=3", "repositories").await;
    assert_eq!(pages, [vec![APP, DOCKER, MANY], vec![SBOM]]);
}

#[tokio::test]
async fn many_tags_need_link_to_be_followed_even_without_n() {
    let registry = demo_registry().await;
    let pages = pages(registry.address(), &format!("/v2/{MANY}/tags/list"), "tags").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
    let mut tags = pages.concat();
    assert!(tags.is_sorted());
    tags.dedup();
    assert_eq!(tags.len(), MANY_TAGS);
}

#[tokio::test]
async fn a_range_of_a_blob_is_that_range() {
    let registry = demo_registry().await;
    let (target, blob) = large_blob();
    let size = blob.len();
    for (range, first, last) in [
        ("bytes=0-0".to_owned(), 0, 0),
        ("bytes=1000-1999".to_owned(), 1000, 1999),
        (format!("bytes={}-", size - 7), size - 7, size - 1),
    ] {
        let response = request(Method::GET, registry.address(), &target, &[("range", &range)]).await;
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(header(&response, "content-range"), format!("bytes {first}-{last}/{size}"));
        assert_eq!(response.bytes().await.unwrap(), blob[first..=last]);
    }
}

#[tokio::test]
async fn a_range_past_the_end_is_refused_with_the_size() {
    let registry = demo_registry().await;
    let (target, blob) = large_blob();
    let range = format!("bytes={}-", blob.len());
    let response = request(Method::GET, registry.address(), &target, &[("range", &range)]).await;
    assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header(&response, "content-range"), format!("bytes */{}", blob.len()));
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let registry = demo_registry().await;
    let (target, blob) = large_blob();
    let response = request(Method::HEAD, registry.address(), &target, &[("range", "bytes=0-0")]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "content-length"), blob.len().to_string());
    assert_eq!(header(&response, "accept-ranges"), "bytes");
    assert!(response.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_error_has_the_code_of_the_specification() {
    let registry = demo_registry().await;
    let nothing = format!("sha256:{}", "0".repeat(64));
    for (method, target, status, code) in [
        (Method::GET, "/v2/none/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        (Method::GET, "/v2/none/manifests/v1".to_owned(), 404, "NAME_UNKNOWN"),
        (Method::GET, format!("/v2/{APP}/manifests/none"), 404, "MANIFEST_UNKNOWN"),
        (Method::GET, format!("/v2/{APP}/manifests/{nothing}"), 404, "MANIFEST_UNKNOWN"),
        (Method::GET, format!("/v2/{APP}/blobs/{nothing}"), 404, "BLOB_UNKNOWN"),
        (Method::GET, format!("/v2/{APP}/blobs/none"), 400, "DIGEST_INVALID"),
        (Method::GET, format!("/v2/{APP}/tags/list?n=many"), 400, "UNSUPPORTED"),
        (Method::POST, format!("/v2/{APP}/blobs/uploads/"), 405, "UNSUPPORTED"),
        (Method::GET, "/v1/".to_owned(), 404, "UNSUPPORTED"),
    ] {
        let response = request(method, registry.address(), &target, &[]).await;
        assert_eq!(response.status().as_u16(), status, "{target}");
        assert_eq!(json(response).await["errors"][0]["code"], code, "{target}");
    }
}

#[tokio::test]
async fn a_dropped_registry_accepts_no_more_connections() {
    let registry = DemoRegistry::start(listen().await, Arc::new(Sample::default())).unwrap();
    let address = registry.address();
    assert_eq!(get(address, "/v2/").await.status(), StatusCode::OK);
    drop(registry);
    // The runtime drops an aborted task's future, and the listener with it, soon but not immediately.
    let deadline = Instant::now() + Duration::from_secs(5);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < deadline, "still accepting");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
