//! The parameters of a `Link` to the next page: the cursors of real registries are followed as they are, and an unknown parameter
//! is an error that says what to configure.

use rexd::client::Settings;
use serde_json::json;
use tonic::Code;

use crate::{
    REGISTRY, Setting,
    support::{
        scripted::{Reply, ScriptedRegistry},
        service::{Options, Service, settings},
        status::Failure,
    },
};

fn page(tag: &str, query: &str) -> Reply {
    let link = format!("</v2/org/app/tags/list?{query}>; rel=\"next\"");
    Reply::json(&json!({ "tags": [tag] })).header("Link", link)
}

/// A setting whose registry has these `page_parameters`.
async fn setting_with(page_parameters: &[&str]) -> Setting {
    let registry = ScriptedRegistry::start().await;
    let page_parameters = page_parameters.iter().map(|name| (*name).to_owned()).collect();
    let settings = Settings { page_parameters, ..settings(REGISTRY, registry.address()) };
    let service = Service::start(vec![settings], Options::default()).await;
    let client = service.client().await;
    Setting { registry, client, _service: service }
}

#[tokio::test]
async fn the_cursors_of_real_registries_are_sent_back_byte_by_byte() {
    for query in [
        // Quay until 2024: a Fernet token, whose padding is percent-encoded.
        "next_page=gAAAAABg1i7jwRsgyD_X_wcMmj11T0waURK8w2MpuKG3a5B5C_iWzc1YMHTRDAPiwnqT4s0g-fQ%3D&n=50",
        // Quay, GHCR, Red Hat and distribution.
        "n=100&last=23.0.4-0",
        "last=2.0.0-beta.9&n=100",
        // ECR: a long cursor and no size; its padding may be unencoded.
        "last=eyJwYXlsb2FkIjoiK2Jhc2U2NC9wYXlsb2FkPT0iLCJkYXRha2V5IjoiQVFFQkFIaCJ9+/==",
        // ACR.
        "last=v1&n=1000&orderby=",
        // Harbor and Artifactory: a tag with characters that Go's url.Values encodes.
        "last=v1_2%2Bbuild&n=2",
        // Cursors and offsets of other registries.
        "cursor=x&n=2",
        "nextToken=x%2Fy",
        "continuationToken=8ea4%3A1",
        "page=2&n=2",
        "n=2&start=2",
        // An empty pair is ignored.
        "&n=2&&last=a&",
    ] {
        let mut setting = Setting::new().await;
        setting.registry.on("GET", "/v2/org/app/tags/list?n=2", [page("a", query)]);
        let first = setting.tags(2, "").await.unwrap();
        let end = Reply::json(&json!({ "tags": ["b"] }));
        setting.registry.on("GET", &format!("/v2/org/app/tags/list?{query}"), [end]);
        let second = setting.tags(2, &first.next_page_token).await.unwrap();
        assert_eq!((first.tags, second.tags), (vec!["a".to_owned()], vec!["b".to_owned()]), "{query}");
        assert!(second.next_page_token.is_empty() && setting.got_expected_requests(), "{query}");
    }
}

#[tokio::test]
async fn an_unknown_parameter_of_a_link_is_an_error_that_names_it_and_the_key_that_allows_it() {
    for (query, named, is_configurable) in [
        ("from=a&n=2", "parameter from,", true),
        ("ns=evil.test&last=a", "parameter ns,", false),
        ("last=a&n=2&n=2", "repeats the parameter n", false),
        ("last=a;n=2", "semicolon", false),
        ("secretcursor", "parameter without a value", false),
        ("secret%0acursor=a", "parameter (no plain word),", true),
    ] {
        let mut setting = Setting::new().await;
        setting.registry.on("GET", "/v2/org/app/tags/list?n=2", [page("a", query)]);
        let status = setting.tags(2, "").await.unwrap_err();
        let failure = Failure::expect(status, Code::Internal, "REGISTRY_INVALID_RESPONSE", query);
        let message = failure.status.message();
        assert!(message.contains(named), "{message}");
        assert_eq!(message.contains("page_parameters"), is_configurable, "{message}");
        assert!(!message.contains("secret") && !message.contains("evil"), "{message}");
    }
}

#[tokio::test]
async fn page_parameters_allow_a_link_and_its_token_but_never_ns() {
    let mut setting = setting_with(&["from", "ns"]).await;
    setting.registry.on("GET", "/v2/org/app/tags/list?n=2", [page("a", "from=a&n=2"), page("a", "ns=x")]);
    let second = Reply::json(&json!({ "tags": ["b"] }));
    setting.registry.on("GET", "/v2/org/app/tags/list?from=a&n=2", [second]);
    let first = setting.tags(2, "").await.unwrap();
    let second = setting.tags(2, &first.next_page_token).await.unwrap();
    assert_eq!(second.tags, ["b"]);
    let status = setting.tags(2, "").await.unwrap_err();
    Failure::expect(status, Code::Internal, "REGISTRY_INVALID_RESPONSE", "ns");
    assert!(setting.got_expected_requests());
}
