//! Grants: what a known caller may read. Unit tests cover the rule itself; these tests cover the RPCs.

use rexd::{callers::Identity, grpc::proto::ListTagsRequest};

use crate::{
    REGISTRY, Setting, caller,
    support::call::{Call, EMPTY_DIGEST},
};

async fn anonymous_with(allow: &[&str]) -> Setting {
    Setting::new([caller("anybody", allow, Identity::Anonymous)]).await
}

#[tokio::test]
async fn a_registry_is_granted_for_every_rpc() {
    let setting = anonymous_with(&[REGISTRY]).await;
    for call in Call::each(REGISTRY) {
        setting.serves(&call, "").await;
    }
}

#[tokio::test]
async fn a_prefix_grants_ping_and_the_repositories_below_it_only() {
    let setting = anonymous_with(&["registry.test:5000/org/"]).await;
    setting.serves(&Call::ping(REGISTRY), "").await;
    for call in Call::each_with_repository(REGISTRY, "org/app") {
        setting.serves(&call, "").await;
    }
    setting.denies(&Call::catalog(REGISTRY), "").await;
    for repository in ["org", "organisation/app", "other/app"] {
        for call in Call::each_with_repository(REGISTRY, repository) {
            let failure = setting.denies(&call, "").await;
            assert_eq!(failure.metadata["registry"], REGISTRY);
            assert_eq!(failure.metadata["repository"], repository);
            assert!(failure.status.message().contains("\"anybody\""), "{:?}", failure.status);
        }
    }
}

#[tokio::test]
async fn another_registry_is_not_granted() {
    let setting = anonymous_with(&["other.test"]).await;
    for call in Call::each(REGISTRY) {
        setting.denies(&call, "").await;
    }
}

#[tokio::test]
async fn an_empty_registry_needs_a_grant_of_the_default_registry() {
    let setting = anonymous_with(&["other.test", "registry.test:5000/org/"]).await;
    setting.serves(&Call::tags("", "org/app"), "").await;
    setting.denies(&Call::tags("", "other/app"), "").await;
    setting.denies(&Call::catalog(""), "").await;
}

#[tokio::test]
async fn a_page_token_needs_a_grant_of_its_repository() {
    let setting = anonymous_with(&[REGISTRY]).await;
    setting.registry.otherwise(|_| {
        let page = crate::Reply::json(&serde_json::json!({ "tags": ["v1"] }));
        Some(page.header("Link", "</v2/secret/app/tags/list?last=v1&n=1>; rel=\"next\""))
    });
    let request = ListTagsRequest {
        registry: REGISTRY.to_owned(),
        repository: "secret/app".to_owned(),
        page_size: 1,
        ..ListTagsRequest::default()
    };
    let page = setting.client().await.list_tags(request.clone()).await.unwrap().into_inner();
    assert!(!page.next_page_token.is_empty());

    let other = anonymous_with(&["registry.test:5000/org/"]).await;
    let stolen = ListTagsRequest { page_token: page.next_page_token, ..request };
    other.denies(&Call::Tags(stolen.clone()), "").await;
    let moved = Call::Tags(ListTagsRequest { repository: "org/app".to_owned(), ..stolen });
    other.refuses(&moved, "", tonic::Code::InvalidArgument, "INVALID_ARGUMENT").await;
}

#[tokio::test]
async fn a_blob_is_read_only_through_a_granted_repository() {
    let setting = anonymous_with(&["registry.test:5000/org/app"]).await;
    setting.serves(&Call::blob(REGISTRY, "org/app", EMPTY_DIGEST), "").await;
    setting.denies(&Call::blob(REGISTRY, "org/other", EMPTY_DIGEST), "").await;
}
