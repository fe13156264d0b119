//! Registries that cause as many requests as they can: the requests of one call are bounded, also when each cause has its
//! own bound.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use rexd::grpc::proto::{StreamBlobRequest, stream_blob_response::Frame};
use tonic::Code;

use crate::{
    REGISTRY, Setting, sha256,
    support::{call::Call, scripted::Reply, wire::Request},
};

/// The maximum number of requests for one call.
const BOUND: usize = 32;

/// Redirects a request to itself five times, as often as a redirect is followed. After that, `None`.
fn redirect_to_itself(request: &Request) -> Option<Reply> {
    let (target, hops) = request.target.split_once("hops=").unwrap_or((&request.target, "0"));
    let hops: u32 = hops.parse().unwrap();
    let separator = match (hops, target.contains('?')) {
        (0, false) => "?",
        (0, true) => "&",
        _ => "",
    };
    let location = format!("{target}{separator}hops={}", hops + 1);
    (hops < 5).then(|| Reply::status(307).header("Location", location))
}

#[tokio::test]
async fn a_call_ends_when_new_realms_and_redirects_cause_too_many_requests() {
    let mut setting = Setting::new().await;
    let (address, realms) = (setting.registry.address(), AtomicU32::new(0));
    setting.registry.otherwise(move |request| {
        if request.target.starts_with("/token") {
            return Some(Reply::json(&serde_json::json!({ "token": "x" })));
        }
        Some(redirect_to_itself(request).unwrap_or_else(|| {
            let realm = format!("Bearer realm=\"http://{address}/token/{}\"", realms.fetch_add(1, SeqCst));
            Reply::status(401).header("WWW-Authenticate", realm)
        }))
    });
    for call in Call::each(REGISTRY) {
        if matches!(call, Call::Ping(_)) {
            // Without credentials, a ping ends with the first challenge.
            continue;
        }
        let before = setting.registry.requests().len();
        let failure = setting.fails(&call, Code::Internal, "REGISTRY_INVALID_RESPONSE").await;
        let message = failure.status.message();
        assert!(message.contains("more than 32 requests for one call"), "{call:?}: {message}");
        assert_eq!(setting.registry.requests().len() - before, BOUND, "{call:?}");
    }
}

#[tokio::test]
async fn a_blob_that_makes_progress_may_use_the_bound_again_with_each_resume() {
    const CONTENT: &[u8] = b"progress";
    let mut setting = Setting::new().await;
    setting.registry.otherwise(|request| {
        Some(redirect_to_itself(request).unwrap_or_else(|| {
            // One byte of the rest, and then the connection breaks.
            let range = request.header("range").unwrap_or("bytes=0-");
            let from: usize = range["bytes=".len()..].split('-').next().unwrap().parse().unwrap();
            Reply::status(206)
                .header("Content-Range", format!("bytes {from}-{}/{}", CONTENT.len() - 1, CONTENT.len()))
                .header("Content-Length", (CONTENT.len() - from).to_string())
                .body(&CONTENT[from..=from])
        }))
    });
    let request = StreamBlobRequest {
        repository: "org/app".to_owned(),
        digest: sha256(CONTENT),
        ..StreamBlobRequest::default()
    };
    let mut stream = setting.client.stream_blob(request).await.unwrap().into_inner();
    let mut content = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        if let Some(Frame::Chunk(chunk)) = message.frame {
            content.extend(chunk.data);
        }
    }
    assert_eq!(content, CONTENT);
    assert_eq!(setting.registry.requests().len(), 6 * CONTENT.len());
}
