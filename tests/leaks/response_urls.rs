//! The service follows neither the origin of a `Link` nor a layer's `urls`, and sends each credential for its own
//! repositories only.

use serde_json::json;
use tonic::Code;

use crate::{
    canary::Canary,
    forbidden_listener::ForbiddenListener,
    support::{
        calls::{Calls, Files, NAME, assert_refused, signed_in},
        scripted::{Reply, ScriptedRegistry},
        token_server::{Rules, TokenServer, basic_of},
    },
};

/// CVE-2026-85732.
#[tokio::test]
async fn an_absolute_link_is_followed_on_the_registrys_own_path() {
    use rexd::grpc::proto::ListTagsRequest;
    let (canary, files, forbidden) = (Canary::new(), Files::new(), ForbiddenListener::start().await);
    for link in [
        format!("http://{}/v2/team/app/tags/list?last=one&n=1", forbidden.address),
        format!("https://{}/steal?last=one&n=1", forbidden.address),
        format!("//{}/steal?last=one&n=1", forbidden.address),
        "/v2/other/repository/tags/list?last=one&n=1".to_owned(),
        "/../../secret?last=one&n=1".to_owned(),
    ] {
        let (registry, next) = (ScriptedRegistry::start().await, format!("<{link}>; rel=\"next\""));
        registry.otherwise(move |request| {
            let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
            Some(if basic_of(request).is_none() {
                Reply::status(401).header("WWW-Authenticate", "Basic realm=\"r\"")
            } else if path != "/v2/team/app/tags/list" {
                Reply::status(500)
            } else if query.contains("last=one") {
                Reply::json(&json!({"name": "team/app", "tags": ["two"]}))
            } else {
                Reply::json(&json!({"name": "team/app", "tags": ["one"]})).header("Link", next.clone())
            })
        });
        let source = files.password("alice", &canary.secret);
        let calls = Calls::to(signed_in(registry.address(), source, None)).await;
        let mut tags = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListTagsRequest {
                registry: NAME.to_owned(),
                repository: "team/app".to_owned(),
                page_size: 1,
                page_token,
                max_age: None,
            };
            let page = calls.client.clone().list_tags(request).await.unwrap().into_inner();
            tags.extend(page.tags);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(tags, ["one", "two"], "{link}");
        canary.assert_not_leaked([]);
    }
    forbidden.assert_no_connection();
}

/// CVE-2020-15157.
#[tokio::test]
async fn a_layers_foreign_urls_are_never_followed() {
    let (canary, files, forbidden) = (Canary::new(), Files::new(), ForbiddenListener::start().await);
    let digest = format!("sha256:{}", "a".repeat(64));
    let layer = json!({
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": digest,
        "size": 10,
        "urls": [format!("http://{}/layer", forbidden.address)],
    });
    let config =
        json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2});
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]});
    let registry = ScriptedRegistry::start().await;
    registry.otherwise(move |request| {
        Some(if basic_of(request).is_none() {
            Reply::status(401).header("WWW-Authenticate", "Basic realm=\"r\"")
        } else if request.target.contains("/manifests/") {
            Reply::status(200).header("Content-Type", media_type).body(manifest.to_string())
        } else {
            Reply::status(404)
        })
    });
    let source = files.password("alice", &canary.secret);
    let calls = Calls::to(signed_in(registry.address(), source, None)).await;
    let content = calls.manifest("team/app", "v1").await.unwrap();
    assert!(String::from_utf8_lossy(&content).contains("urls"));
    let missing = assert_refused(calls.blob("team/app", &digest).await, Code::NotFound, "BLOB_UNKNOWN");
    canary.assert_not_leaked([&missing]);
    forbidden.assert_no_connection();
}

/// zot CVE-2024-39897: tests/signin lets many calls race; this test checks the requests on the wire.
#[tokio::test]
async fn each_credential_is_sent_for_its_own_repositories_only() {
    let (one, two, files) = (Canary::new(), Canary::new(), Files::new());
    let rules = Rules {
        accounts: vec![("one".to_owned(), one.secret.clone()), ("two".to_owned(), two.secret.clone())],
        ..Rules::default()
    };
    let tokens = TokenServer::start(rules).await;
    let registry = tokens.registry().await;
    let source = files.docker_config(json!({
        format!("{NAME}/one"): { "username": "one", "password": one.secret },
        format!("{NAME}/two"): { "username": "two", "password": two.secret },
    }));
    let calls = Calls::to(signed_in(registry.address(), source, Some(&tokens))).await;
    for owner in ["one", "two", "one", "two"] {
        assert_eq!(calls.served(&format!("{owner}/app")).await.unwrap(), owner);
    }
    for request in tokens.requests() {
        let of_one = request.target.contains("repository%3Aone%2F");
        assert_eq!(one.is_in_request(&request), of_one, "{}", request.target);
        assert_eq!(two.is_in_request(&request), !of_one, "{}", request.target);
    }
    one.assert_not_leaked([]);
    two.assert_not_leaked([]);
}
