//! Registries that are unavailable or limit their callers, and the retry delay that the caller gets.

use std::time::{Duration, SystemTime};

use tonic::Code;

use crate::{
    REGISTRY,
    errors::{envelope, failure, manifest},
    support::{call::Call, scripted::Reply},
};

#[tokio::test]
async fn the_retry_delay_of_a_rate_limit_comes_from_seconds_or_a_date() {
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(120));
    for call in Call::each(REGISTRY) {
        for (retry_after, range) in [("120", 120_000..=120_000), (date.as_str(), 100_000..=120_000)] {
            let reply = envelope(429, "TOOMANYREQUESTS").header("Retry-After", retry_after);
            let failure = failure(&call, reply).await;
            assert_eq!(failure.reason, "REGISTRY_RATE_LIMITED");
            assert!(failure.retry_ms().is_some_and(|ms| range.contains(&ms)), "{:?}", failure.details);
            let pushback = failure.status.metadata().get("grpc-retry-pushback-ms").unwrap();
            assert_eq!(pushback.to_str().unwrap(), failure.retry_ms().unwrap().to_string());
        }
    }
}

#[tokio::test]
async fn a_rate_limit_without_a_valid_retry_after_has_a_default_delay() {
    for retry_after in [None, Some("soon"), Some("-1"), Some("")] {
        let mut reply = Reply::status(429);
        if let Some(value) = retry_after {
            reply = reply.header("Retry-After", value);
        }
        let failure = failure(&manifest(), reply).await;
        assert_eq!(failure.reason, "REGISTRY_RATE_LIMITED");
        assert_eq!(failure.retry_ms(), Some(1000), "{retry_after:?}");
    }
}

#[tokio::test]
async fn a_failing_registry_is_unavailable_with_a_retry_delay() {
    for status in [500, 502, 503, 504, 507, 599] {
        for call in Call::each(REGISTRY) {
            let failure = failure(&call, Reply::status(status)).await;
            let found = (failure.status.code(), failure.reason.as_str());
            assert_eq!(found, (Code::Unavailable, "REGISTRY_UNAVAILABLE"), "{call:?} {status}");
            assert!(failure.retry_ms().is_some());
        }
    }
    let failure = failure(&manifest(), Reply::status(503).header("Retry-After", "90")).await;
    assert_eq!(failure.retry_ms(), Some(90_000));
}

#[tokio::test]
async fn a_response_that_is_not_http_is_unreachable() {
    for bytes in [&b""[..], b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.1 200 OK\r\nContent-Le", b"\0\0\0\0"] {
        for call in Call::each(REGISTRY) {
            let failure = failure(&call, Reply::Raw(bytes.to_vec())).await;
            let found = (failure.status.code(), failure.reason.as_str());
            assert_eq!(found, (Code::Unavailable, "REGISTRY_UNREACHABLE"), "{call:?} {bytes:?}");
            assert!(failure.retry_ms().is_some());
        }
    }
}
