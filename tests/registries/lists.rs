//! The content of a page: nulls, invalid names, and more entries than requested. Also registries that refuse `n`.

use rexd::grpc::proto::ListCatalogRequest;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    REGISTRY, Setting,
    support::{call::Call, scripted::Reply, service::Options},
};

/// The tags that the caller gets for a page with this value of `tags`.
async fn tags_of(document: Value) -> Vec<String> {
    let mut setting = Setting::new().await;
    let target = "/v2/org/app/tags/list?n=100";
    setting.registry.on("GET", target, [Reply::json(&document)]);
    let page = setting.tags(0, "").await.unwrap();
    assert!(page.next_page_token.is_empty() && setting.got_expected_requests());
    page.tags
}

#[tokio::test]
async fn a_list_that_is_null_is_empty() {
    for document in [
        json!({ "tags": null }),
        json!({ "tags": [] }),
        json!({ "tags": null, "errors": null }),
        json!({ "name": "org/app", "tags": null, "repositories": ["x"] }),
    ] {
        assert!(tags_of(document.clone()).await.is_empty(), "{document}");
    }
}

#[tokio::test]
async fn a_missing_list_and_an_error_with_200_are_invalid_responses() {
    let errors = json!([{ "code": "DENIED", "message": "no" }]);
    for document in [
        json!({}),
        json!({ "name": "org/app" }),
        json!({ "errors": errors }),
        json!({ "errors": errors, "tags": null, "repositories": null }),
        json!({ "errors": [], "tags": ["a"], "repositories": ["a"] }),
    ] {
        for call in [Call::tags(REGISTRY, "org/app"), Call::catalog(REGISTRY)] {
            assert_invalid_list(&call, &document).await;
        }
    }
    assert_invalid_list(&Call::tags(REGISTRY, "org/app"), &json!({ "repositories": ["a"] })).await;
    assert_invalid_list(&Call::catalog(REGISTRY), &json!({ "tags": ["a"] })).await;
}

async fn assert_invalid_list(call: &Call, document: &Value) {
    let mut setting = Setting::new().await;
    let reply = Reply::json(document);
    setting.registry.otherwise(move |_| Some(reply.clone()));
    let failure = setting.fails(call, Code::Internal, "REGISTRY_INVALID_RESPONSE").await;
    assert!(failure.status.message().contains("application/json"), "{document}: {:?}", failure.status);
}

#[tokio::test]
async fn null_entries_and_invalid_tags_are_skipped() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let long = "a".repeat(129);
    let document =
        json!({ "name": "org/app", "tags": ["b", null, digest, "", "../x", "ä", "a b", long, "a", null] });
    assert_eq!(tags_of(document).await, ["b", "a"], "in the registry's order");
}

#[tokio::test]
async fn invalid_repository_names_are_skipped() {
    let mut setting = Setting::new().await;
    let page =
        Reply::json(&json!({ "repositories": ["org/app", null, "Org/App", "a//b", "../x", "", "app"] }));
    setting.registry.on("GET", "/v2/_catalog?n=100", [page]);
    let page = setting.client.list_catalog(ListCatalogRequest::default()).await.unwrap();
    assert_eq!(page.into_inner().repositories, ["org/app", "app"]);
}

#[tokio::test]
async fn a_registry_that_ignores_n_is_read_through_windows() {
    let all: Vec<String> = (0..250).map(|number| format!("v{number}")).collect();
    let mut setting = Setting::new().await;
    let reply = Reply::json(&json!({ "tags": all }));
    setting.registry.otherwise(move |_| Some(reply.clone()));
    for page_size in [1, 99, 100, 125, 249, 250, 251, 1000] {
        let (mut read, mut token) = (Vec::new(), String::new());
        loop {
            let page = setting.tags(page_size, &token).await.unwrap();
            assert!(page.tags.len() <= page_size as usize && !page.tags.is_empty());
            read.extend(page.tags);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(read, all, "page_size {page_size}");
    }
}

#[tokio::test]
async fn windows_continue_with_the_next_page_of_the_registry() {
    let mut setting = Setting::new().await;
    let link = "</v2/org/app/tags/list?cursor=x>; rel=\"next\"";
    let first = Reply::json(&json!({ "tags": ["a", "b", "c"] })).header("Link", link);
    setting.registry.on("GET", "/v2/org/app/tags/list?n=2", [first.clone(), first]);
    let second = Reply::json(&json!({ "tags": ["d"] }));
    setting.registry.on("GET", "/v2/org/app/tags/list?cursor=x", [second]);
    let mut pages = Vec::new();
    let mut token = String::new();
    for _ in 0..3 {
        let page = setting.tags(2, &token).await.unwrap();
        pages.push(page.tags);
        token = page.next_page_token;
    }
    assert_eq!(pages, [vec!["a", "b"], vec!["c"], vec!["d"]]);
    assert!(token.is_empty() && setting.got_expected_requests());
}

#[tokio::test]
async fn a_registry_that_refuses_a_large_n_gets_a_smaller_one() {
    for refusal in [400, 413] {
        let mut setting = Setting::new().await;
        let link = "</v2/org/app/tags/list?n=100&next_page=opaque>; rel=\"next\"";
        let page = Reply::json(&json!({ "tags": ["a"] })).header("Link", link);
        setting.registry.on("GET", "/v2/org/app/tags/list?n=1000", [Reply::status(refusal)]);
        setting.registry.on("GET", "/v2/org/app/tags/list?n=100", [page]);
        let target = "/v2/org/app/tags/list?n=100&next_page=opaque";
        setting.registry.on("GET", target, [Reply::json(&json!({ "tags": ["b"] }))]);
        let first = setting.tags(1000, "").await.unwrap();
        let second = setting.tags(1000, &first.next_page_token).await.unwrap();
        assert_eq!((first.tags, second.tags), (vec!["a".to_owned()], vec!["b".to_owned()]));
        assert!(setting.got_expected_requests());
    }
}

#[tokio::test]
async fn a_registry_that_refuses_any_n_gets_a_request_without_it() {
    let mut setting = Setting::new().await;
    for n in [1000, 100] {
        let target = format!("/v2/org/app/tags/list?n={n}");
        setting.registry.on("GET", &target, [Reply::status(400)]);
    }
    let all: Vec<String> = (0..1500).map(|number| format!("v{number}")).collect();
    let page = Reply::json(&json!({ "tags": all }));
    setting.registry.on("GET", "/v2/org/app/tags/list", [page.clone(), page]);
    let first = setting.tags(1000, "").await.unwrap();
    let second = setting.tags(1000, &first.next_page_token).await.unwrap();
    assert_eq!([first.tags, second.tags].concat(), all);
    assert!(second.next_page_token.is_empty() && setting.got_expected_requests());
}

#[tokio::test]
async fn refusing_every_list_query_is_an_invalid_response() {
    let mut setting = Setting::new().await;
    setting.registry.otherwise(|_| Some(Reply::status(400)));
    let call = Call::tags(REGISTRY, "org/app");
    let failure = setting.fails(&call, Code::Internal, "REGISTRY_INVALID_RESPONSE").await;
    assert_eq!(failure.metadata["http_status"], "400");
    assert_eq!(setting.registry.requests().len(), 2, "with n, and without");
}

#[tokio::test]
async fn docker_hub_has_no_catalog_and_gets_no_request_for_one() {
    let mut setting = Setting::called("docker.io", Options::default()).await;
    for name in ["docker.io", "index.docker.io", "registry-1.docker.io", ""] {
        setting.fails(&Call::catalog(name), Code::Unimplemented, "UNSUPPORTED_BY_REGISTRY").await;
    }
    assert!(setting.registry.requests().is_empty());
}
