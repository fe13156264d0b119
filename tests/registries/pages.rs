//! Pagination: which links are followed, and chains of pages that never end.

use rexd::client::Limits;
use serde_json::json;
use tonic::{Code, Status};

use crate::{
    Setting,
    support::{scripted::Reply, service::Options, status::Failure, wire::Request},
};

/// A page whose `Link` has this target.
fn page(tags: &[&str], next: &str) -> Reply {
    Reply::json(&json!({ "tags": tags })).header("Link", format!("<{next}>; rel=\"next\""))
}

/// Reads all pages of the tags, two tags a page, up to the end or an error.
async fn walk(setting: &mut Setting) -> (Vec<String>, Option<Status>) {
    let (mut read, mut token) = (Vec::new(), String::new());
    for _ in 0..1000 {
        match setting.tags(2, &token).await {
            Err(status) => return (read, Some(status)),
            Ok(page) => {
                read.extend(page.tags);
                token = page.next_page_token;
            }
        }
        if token.is_empty() {
            return (read, None);
        }
    }
    panic!("a list without end");
}

fn cursor(request: &Request) -> usize {
    let number = request.target.rsplit_once("cursor=").map(|(_, number)| number.parse().unwrap());
    number.unwrap_or_default()
}

/// The walk must end with the error of an invalid response.
async fn ends_in_an_error(setting: &mut Setting, problem: &str) -> Vec<String> {
    let (read, status) = walk(setting).await;
    let status = status.unwrap_or_else(|| panic!("the list ended without an error after {read:?}"));
    let failure = Failure::expect(status, Code::Internal, "REGISTRY_INVALID_RESPONSE", problem);
    assert!(failure.status.message().contains(problem), "{:?}", failure.status);
    read
}

#[tokio::test]
async fn opaque_cursors_are_followed_to_the_end() {
    let mut setting = Setting::new().await;
    setting.registry.otherwise(|request| {
        let at = cursor(request);
        let (a, b) = (format!("v{}", 2 * at), format!("v{}", 2 * at + 1));
        let tags = json!({ "tags": [a, b] });
        let next = format!("</v2/org/app/tags/list?cursor={}>; rel=next", at + 1);
        Some(if at < 30 { Reply::json(&tags).header("Link", next) } else { Reply::json(&tags) })
    });
    let (read, status) = walk(&mut setting).await;
    let all: Vec<String> = (0..62).map(|number| format!("v{number}")).collect();
    assert!(status.is_none(), "{status:?}");
    assert_eq!(read, all);
}

#[tokio::test]
async fn only_the_query_of_a_link_is_used() {
    let mut setting = Setting::new().await;
    let first = page(&["a", "b"], "https://evil.test/steal?last=b&n=2");
    setting.registry.on("GET", "/v2/org/app/tags/list?n=2", [first]);
    let second = page(&["c", "d"], "//evil.test/v2/org/other/tags/list?last=d&n=2#x");
    setting.registry.on("GET", "/v2/org/app/tags/list?last=b&n=2", [second]);
    let third = page(&["e"], "/v2/../../admin?last=e&n=2");
    setting.registry.on("GET", "/v2/org/app/tags/list?last=d&n=2", [third]);
    let last = Reply::json(&json!({ "tags": ["f"] }));
    setting.registry.on("GET", "/v2/org/app/tags/list?last=e&n=2", [last]);
    let (read, status) = walk(&mut setting).await;
    assert!(
        status.is_none() && setting.got_expected_requests(),
        "{status:?} {:?}",
        setting.registry.unexpected()
    );
    assert_eq!(read, ["a", "b", "c", "d", "e", "f"]);
}

#[tokio::test]
async fn a_registry_may_raise_n_in_its_link_to_1000_only() {
    let mut setting = Setting::new().await;
    let first = page(&["a", "b"], "/v2/org/app/tags/list?last=b&n=1000000");
    setting.registry.on("GET", "/v2/org/app/tags/list?n=2", [first]);
    let last = Reply::json(&json!({ "tags": ["c"] }));
    setting.registry.on("GET", "/v2/org/app/tags/list?last=b&n=1000", [last]);
    let (read, status) = walk(&mut setting).await;
    assert!(
        status.is_none() && setting.got_expected_requests(),
        "{status:?} {:?}",
        setting.registry.unexpected()
    );
    assert_eq!(read, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_page_that_links_to_itself_is_an_error() {
    let mut setting = Setting::new().await;
    setting.registry.otherwise(|_| Some(page(&["a", "b"], "/v2/org/app/tags/list?last=b&n=2")));
    let read = ends_in_an_error(&mut setting, "page").await;
    assert!(read.len() <= 4, "{read:?}");
    assert!(setting.registry.requests().len() <= 3);
}

#[tokio::test]
async fn the_same_page_under_new_cursors_is_an_error() {
    let mut setting = Setting::new().await;
    setting.registry.otherwise(|request| {
        let next = format!("/v2/org/app/tags/list?cursor={}", cursor(request) + 1);
        Some(page(&["a", "b"], &next))
    });
    let read = ends_in_an_error(&mut setting, "repeats").await;
    assert_eq!(read, ["a", "b"]);
}

/// Reads pages whose cursors form a circle of this length.
async fn round(circle: usize) -> (Vec<String>, usize) {
    let mut setting = Setting::new().await;
    setting.registry.otherwise(move |request| {
        let at = cursor(request);
        let tags = [format!("v{}", 2 * at), format!("v{}", 2 * at + 1)];
        let next = format!("/v2/org/app/tags/list?cursor={}", (at + 1) % circle);
        Some(page(&tags.each_ref().map(String::as_str), &next))
    });
    let read = ends_in_an_error(&mut setting, "go round in a circle").await;
    (read, setting.registry.requests().len())
}

#[tokio::test]
async fn alternating_pages_are_an_error_long_before_the_page_limit() {
    let (read, requests) = round(2).await;
    assert_eq!(read, ["v0", "v1", "v2", "v3", "v0", "v1"]);
    assert_eq!(requests, 4);
    for circle in [3, 5, 8] {
        let (_, requests) = round(circle).await;
        assert!(requests <= 3 * circle + 2, "{requests} requests for a circle of {circle}");
    }
}

#[tokio::test]
async fn more_pages_than_the_limit_are_an_error_and_not_a_short_list() {
    let limits = Limits { max_pages: 5, ..Options::default().limits };
    let mut setting = Setting::called(crate::REGISTRY, Options { limits, ..Options::default() }).await;
    setting.registry.otherwise(|request| {
        let at = cursor(request);
        Some(page(&[&format!("v{at}")], &format!("/v2/org/app/tags/list?cursor={}", at + 1)))
    });
    let read = ends_in_an_error(&mut setting, "more than 5 pages").await;
    assert_eq!(read, ["v0", "v1", "v2", "v3", "v4"]);
}

#[tokio::test]
async fn empty_pages_without_end_are_an_error() {
    let limits = Limits { max_pages: 5, ..Options::default().limits };
    let mut setting = Setting::called(crate::REGISTRY, Options { limits, ..Options::default() }).await;
    setting.registry.otherwise(|request| {
        Some(page(&[], &format!("/v2/org/app/tags/list?cursor={}", cursor(request) + 1)))
    });
    assert!(ends_in_an_error(&mut setting, "more than 5 pages").await.is_empty());
}

#[tokio::test]
async fn a_link_that_cannot_be_followed_is_an_error_and_not_the_end() {
    for next in ["/v2/org/app/tags/list", "", "?", &format!("/x?{}", "a".repeat(9000))] {
        let mut setting = Setting::new().await;
        let reply = page(&["a", "b"], next);
        setting.registry.otherwise(move |_| Some(reply.clone()));
        ends_in_an_error(&mut setting, "cannot be followed").await;
    }
}
