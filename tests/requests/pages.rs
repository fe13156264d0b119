//! Page sizes and page tokens.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rexd::grpc::proto::{ListCatalogRequest, ListTagsRequest};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    REGISTRY, Setting,
    support::{call::Call, scripted::Reply},
};

fn tags(page_size: i32, page_token: &str) -> ListTagsRequest {
    ListTagsRequest {
        registry: REGISTRY.to_owned(),
        repository: "org/app".to_owned(),
        page_size,
        page_token: page_token.to_owned(),
        max_age: None,
    }
}

fn catalog(page_size: i32, page_token: &str) -> ListCatalogRequest {
    ListCatalogRequest {
        registry: REGISTRY.to_owned(),
        page_size,
        page_token: page_token.to_owned(),
        max_age: None,
    }
}

/// A valid token of the list of tags of `org/app`.
async fn token() -> String {
    let mut setting = Setting::new(false).await;
    let page = Reply::json(&json!({ "tags": ["a", "b"] }))
        .header("Link", "</v2/org/app/tags/list?last=b&n=2>; rel=\"next\"");
    setting.registry.on("GET", "/v2/org/app/tags/list?n=2", [page]);
    let page = setting.client.list_tags(tags(2, "")).await.unwrap().into_inner();
    assert_eq!(page.tags, ["a", "b"]);
    page.next_page_token
}

#[tokio::test]
async fn a_damaged_token_is_invalid_wherever_it_is_damaged() {
    let mut setting = Setting::new(false).await;
    let token = token().await;
    // The last character of base64 may have unused bits; every other one is part of the token.
    for at in 0..token.len() - 1 {
        let mut damaged = token.clone().into_bytes();
        damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
        let damaged = String::from_utf8(damaged).unwrap();
        setting.refuses_field("page_token", [Call::Tags(tags(2, &damaged))]).await;
    }
    for length in 1..token.len() {
        setting.refuses_field("page_token", [Call::Tags(tags(2, &token[..length]))]).await;
    }
}

#[tokio::test]
async fn text_that_is_not_a_token_is_invalid() {
    let mut setting = Setting::new(false).await;
    let token = token().await;
    let long = "A".repeat(40_000);
    for wrong in [
        "x",
        "a",
        "====",
        "%",
        "\0",
        "\r\n",
        "ä",
        "null",
        "e30",
        "https://registry.test/v2/",
        &long,
        &format!(" {token}"),
        &format!("{token}="),
        &format!("{token}{token}"),
    ] {
        let calls = [Call::Tags(tags(2, wrong)), Call::Catalog(catalog(2, wrong))];
        setting.refuses_field("page_token", calls).await;
    }
}

#[tokio::test]
async fn a_token_of_another_list_is_invalid() {
    let mut setting = Setting::new(false).await;
    let token = token().await;
    let other_repository = ListTagsRequest { repository: "org/other".to_owned(), ..tags(2, &token) };
    let calls = [Call::Tags(other_repository), Call::Catalog(catalog(2, &token))];
    setting.refuses_field("page_token", calls).await;
    let mut open = Setting::new(true).await;
    let other_registry = ListTagsRequest { registry: "registry.test:5001".to_owned(), ..tags(2, &token) };
    open.refuses_field("page_token", [Call::Tags(other_registry)]).await;
}

#[tokio::test]
async fn a_token_serves_any_replica() {
    let token = token().await;
    let mut setting = Setting::new(false).await;
    let page = Reply::json(&json!({ "tags": ["c"] }));
    setting.registry.on("GET", "/v2/org/app/tags/list?last=b&n=2", [page]);
    let page = setting.client.list_tags(tags(2, &token)).await.unwrap().into_inner();
    assert_eq!((page.tags, page.next_page_token), (vec!["c".to_owned()], String::new()));
}

#[tokio::test]
async fn a_page_size_is_100_unless_given_and_1000_at_most() {
    for (page_size, n) in [(0, 100), (1, 1), (1000, 1000), (1001, 1000), (i32::MAX, 1000)] {
        let mut setting = Setting::new(false).await;
        let (tags_page, catalog_page) = (json!({ "tags": ["v1"] }), json!({ "repositories": ["org/app"] }));
        let tags_target = format!("/v2/org/app/tags/list?n={n}");
        setting.registry.on("GET", &tags_target, [Reply::json(&tags_page)]);
        let catalog_target = format!("/v2/_catalog?n={n}");
        setting.registry.on("GET", &catalog_target, [Reply::json(&catalog_page)]);
        setting.client.list_tags(tags(page_size, "")).await.unwrap();
        setting.client.list_catalog(catalog(page_size, "")).await.unwrap();
        assert!(setting.registry.missing().is_empty(), "page_size {page_size}");
    }
}

/// A token whose checksum is right, for the tags of `org/app`, with a query that no registry sent.
fn forged(query: &str) -> String {
    let json = json!({ "r": REGISTRY, "p": "org/app", "q": query, "s": 0, "n": 1 }).to_string();
    let mut bytes = json.into_bytes();
    let checksum = Sha256::digest(&bytes);
    bytes.extend(&checksum[..8]);
    URL_SAFE_NO_PAD.encode(bytes)
}

#[tokio::test]
async fn a_forged_token_with_a_parameter_that_does_not_choose_a_page_is_invalid() {
    let mut setting = Setting::new(false).await;
    for query in [
        "ns=evil.test",
        "n=2&last=b&ns=evil.test",
        "NS=evil.test",
        "n=2&scope=repository:org/other:pull",
        "scope=",
        "service=x",
        "access_token=x",
        "%6e=2",
        "%6es=evil.test",
        "n%73=evil.test",
        "n=2&n=3",
        "last=a&last=b",
        "last=a;ns=evil.test",
        "last=a&;ns=evil.test",
        "n\ts=evil.test",
        "\tns=evil.test",
        "N=2",
        "n =2",
        "+n=2",
        "ns",
        "x",
        "=x",
        "last[]=a",
        "last=a&\r\nns=evil.test",
        "last=a&amp;ns=evil.test",
    ] {
        setting.refuses_field("page_token", [Call::Tags(tags(2, &forged(query)))]).await;
    }
}

#[tokio::test]
async fn a_forged_token_can_only_choose_another_part_of_its_own_list() {
    let mut setting = Setting::new(false).await;
    let page = Reply::json(&json!({ "tags": ["z"] }));
    // An ampersand and a hash that are percent-encoded stay inside the value.
    setting.registry.on("GET", "/v2/org/app/tags/list?last=a%26ns%3Devil.test%23&n=1000", [page]);
    let token = forged("last=a%26ns%3Devil.test%23&n=9999");
    let page = setting.client.list_tags(tags(2, &token)).await.unwrap().into_inner();
    assert_eq!(page.tags, ["z"]);
    assert!(setting.registry.missing().is_empty(), "{:?}", setting.registry.requests());
}
