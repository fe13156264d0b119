//! The scripted registry.

use reqwest::Method;

use crate::{
    get, header, request,
    support::scripted::{Reply, ScriptedRegistry},
};

#[tokio::test]
async fn replies_are_sent_in_order_and_one_more_request_is_unexpected() {
    let registry = ScriptedRegistry::start().await;
    let challenge = Reply::status(401).header("WWW-Authenticate", "Basic realm=\"test\"");
    registry.on("GET", "/v2/?n=1", [challenge, Reply::json(&serde_json::json!({}))]);
    let first = request(Method::GET, registry.address(), "/v2/?n=1", &[("x-mark", "7")]).await;
    assert_eq!(first.status().as_u16(), 401);
    assert_eq!(header(&first, "www-authenticate"), "Basic realm=\"test\"");
    assert_eq!(registry.missing(), [("GET".to_owned(), "/v2/?n=1".to_owned())]);
    let second = get(registry.address(), "/v2/?n=1").await;
    assert_eq!(second.bytes().await.unwrap(), "{}");
    assert!(registry.missing().is_empty() && registry.unexpected().is_empty());
    assert_eq!(get(registry.address(), "/v2/?n=1").await.status().as_u16(), 599);
    assert_eq!(registry.unexpected()[0].target, "/v2/?n=1");
    assert_eq!(registry.requests().len(), 3);
    assert_eq!(registry.requests()[0].header("X-Mark"), Some("7"));
}

#[tokio::test]
async fn another_method_or_query_is_unexpected() {
    let registry = ScriptedRegistry::start().await;
    registry.always("GET", "/v2/", Reply::status(200));
    for _ in 0..2 {
        assert_eq!(get(registry.address(), "/v2/").await.status().as_u16(), 200);
    }
    assert_eq!(get(registry.address(), "/v2/?n=1").await.status().as_u16(), 599);
    assert_eq!(request(Method::HEAD, registry.address(), "/v2/", &[]).await.status().as_u16(), 599);
    assert_eq!(registry.unexpected().len(), 2);
}

#[tokio::test]
async fn a_closure_responds_to_requests_outside_the_script() {
    let registry = ScriptedRegistry::start().await;
    registry.otherwise(|request| {
        (request.target == "/echo").then(|| Reply::status(200).body(request.body.clone()))
    });
    let url = format!("http://{}", registry.address());
    let echo = crate::client().post(format!("{url}/echo")).body("grant_type=password").send().await.unwrap();
    assert_eq!(echo.bytes().await.unwrap(), "grant_type=password");
    assert_eq!(get(registry.address(), "/other").await.status().as_u16(), 599);
}

#[tokio::test]
async fn raw_bytes_need_not_be_http() {
    let registry = ScriptedRegistry::start().await;
    registry.on("GET", "/v2/", [Reply::Raw(b"220 smtp.example.com ready\r\n".to_vec())]);
    let response = crate::client().get(format!("http://{}/v2/", registry.address())).send().await;
    assert!(response.is_err());
    assert!(registry.unexpected().is_empty());
}
