//! No status contains what a registry sends in bodies, queries and parameters, and every status is small (`Failure::of`
//! checks the size of each one in these tests).

use serde_json::json;
use tonic::Code;

use crate::{
    OCI_MANIFEST, REGISTRY, Setting, image, sha256,
    support::{
        call::Call,
        scripted::{Reply, ScriptedRegistry},
        service::{Options, Service, settings},
    },
};

const CANARY: &str = "canary-7f3a";

/// Responses with the canary in every place where a registry could put a secret, or an attacker a text.
fn canaries() -> Vec<Reply> {
    let envelope =
        json!({ "errors": [{ "code": CANARY, "message": CANARY, "detail": { "token": CANARY } }] });
    let mut replies: Vec<Reply> = [400, 401, 403, 404, 405, 418, 429, 500, 503]
        .into_iter()
        .map(|status| {
            let challenge =
                format!("Bearer realm=\"http://127.0.0.1:1/token?secret={CANARY}\",service=\"{CANARY}\"");
            Reply::status(status)
                .header("Content-Type", format!("application/json; token={CANARY}"))
                .header("WWW-Authenticate", challenge)
                .header("Link", format!("</x?{CANARY}>; rel=next"))
                .body(envelope.to_string())
        })
        .collect();
    for location in [
        format!("http://127.0.0.1:1/blob?X-Amz-Signature={CANARY}"),
        format!("https://127.0.0.1:1/blob?X-Amz-Signature={CANARY}"),
        format!("https://user:{CANARY}@127.0.0.1:1/"),
        format!("ftp://127.0.0.1/?{CANARY}"),
        format!("/v2/org/app/manifests/v1?{CANARY}"),
    ] {
        replies.push(Reply::status(307).header("Location", location));
    }
    let html = Reply::status(200).header("Content-Type", format!("text/html; {CANARY}"));
    replies.push(html.body(format!("<h1>{CANARY}</h1>")));
    let json = Reply::status(200).header("Content-Type", "application/json");
    replies.push(json.body(format!("{{\"tags\": {{\"{CANARY}\": 1}}, \"layers\": \"{CANARY}\"}}")));
    let digest = Reply::status(200).header("Content-Type", OCI_MANIFEST);
    replies.push(digest.header("Docker-Content-Digest", CANARY).body(image("a")));
    replies.push(Reply::Raw(format!("{CANARY}\r\n\r\n").into_bytes()));
    replies.push(Reply::Raw(format!("HTTP/1.1 200 OK\r\n{CANARY}\r\n\r\n").into_bytes()));
    replies
}

#[tokio::test]
async fn secrets_in_a_registry_response_are_never_in_a_status() {
    for reply in canaries() {
        let mut setting = Setting::new().await;
        let response = reply.clone();
        setting.registry.otherwise(move |_| Some(response.clone()));
        for call in Call::each(REGISTRY) {
            let Err(status) = call.outcome(&mut setting.client).await else {
                continue;
            };
            let failure = crate::Failure::of(status);
            assert!(!failure.leaks(CANARY), "{call:?} {reply:?}: {:?}", failure.status);
        }
        assert!(!setting.registry.requests().is_empty());
    }
}

#[tokio::test]
async fn an_unreachable_presigned_url_is_not_in_the_status() {
    let registry = ScriptedRegistry::start().await;
    // Bound but not listening, so connections are refused.
    let dead = tokio::net::TcpSocket::new_v4().unwrap();
    dead.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let storage = format!("http://{}", dead.local_addr().unwrap());
    let mut upstream = settings(REGISTRY, registry.address());
    upstream.http.trusted_origins = vec![storage.parse().unwrap()];
    let service = Service::start(vec![upstream], Options::default()).await;
    let location = format!("{storage}/blob?X-Amz-Signature={CANARY}");
    registry.otherwise(move |_| Some(Reply::status(307).header("Location", location.clone())));
    let blob = Call::blob(REGISTRY, "org/app", &sha256(b""));
    let failure = blob.failure(&mut service.client().await).await;
    assert_eq!(failure.reason, "REGISTRY_UNREACHABLE", "{:?}", failure.status);
    assert!(!failure.leaks(CANARY), "{:?}", failure.status);
}

#[tokio::test]
async fn a_status_is_small_with_the_longest_names_and_responses() {
    // 63 characters a label, 253 in all, and the longest port.
    let name = format!("{0}.{0}.{0}.{1}:65535", "a".repeat(63), "a".repeat(61));
    let repository = "a".repeat(255);
    let code = "A".repeat(64);
    let sha512 = format!("sha512:{}", "a".repeat(128));
    let envelope = json!({ "errors": [{ "code": code }] }).to_string();
    let mut replies: Vec<Reply> = [400, 401, 403, 404, 405, 429, 500]
        .into_iter()
        .map(|status| Reply::status(status).body(envelope.clone()))
        .collect();
    for character in ["a", "{", "\"", "%", " x"] {
        let content_type = format!("text/{}", character.repeat(4000));
        replies.push(Reply::status(200).header("Content-Type", content_type).body(image("a")));
    }
    let mut seen = 0;
    for reply in replies {
        let mut setting = Setting::called(&name, Options::default()).await;
        let response = reply.clone();
        setting.registry.otherwise(move |_| Some(response.clone()));
        for call in [
            Call::ping(&name),
            Call::catalog(&name),
            Call::tags(&name, &repository),
            Call::manifest(&name, &repository, &"a".repeat(128)),
            Call::manifest(&name, &repository, &sha512),
            Call::blob(&name, &repository, &sha512),
        ] {
            if let Err(status) = call.outcome(&mut setting.client).await {
                assert_ne!(status.code(), Code::Unknown, "{status:?}");
                let _ = crate::Failure::of(status);
                seen += 1;
            }
        }
    }
    // Manifests and the blob fail because of the Content-Type, and a manifest is not a list; only the ping succeeds.
    assert_eq!(seen, 7 * 6 + 5 * 5);
}
