//! Error responses of a registry, and the status that the caller gets: the error table of the API, row by row.

use serde_json::json;
use tonic::Code;

use crate::{
    REGISTRY, Setting,
    support::{
        call::{Call, EMPTY_DIGEST},
        scripted::Reply,
        status::Failure,
    },
};

/// An error body as the specification defines it.
pub(crate) fn envelope(status: u16, code: &str) -> Reply {
    let body =
        json!({ "errors": [{ "code": code, "message": "something", "detail": { "any": ["thing"] } }] });
    Reply::status(status).header("Content-Type", "application/json").body(body.to_string())
}

pub(crate) async fn failure(call: &Call, reply: Reply) -> Failure {
    let mut setting = Setting::new().await;
    setting.registry.otherwise(move |_| Some(reply.clone()));
    call.failure(&mut setting.client).await
}

fn tags() -> Call {
    Call::tags(REGISTRY, "org/app")
}

pub(crate) fn manifest() -> Call {
    Call::manifest(REGISTRY, "org/app", "v1")
}

fn blob() -> Call {
    Call::blob(REGISTRY, "org/app", EMPTY_DIGEST)
}

#[tokio::test]
async fn codes_of_the_specification_become_reasons() {
    for (call, status, oci_code, code, reason) in [
        (tags(), 404, "NAME_UNKNOWN", Code::NotFound, "REPOSITORY_UNKNOWN"),
        (manifest(), 404, "NAME_UNKNOWN", Code::NotFound, "REPOSITORY_UNKNOWN"),
        (blob(), 404, "NAME_UNKNOWN", Code::NotFound, "REPOSITORY_UNKNOWN"),
        (manifest(), 404, "MANIFEST_UNKNOWN", Code::NotFound, "MANIFEST_UNKNOWN"),
        (blob(), 404, "BLOB_UNKNOWN", Code::NotFound, "BLOB_UNKNOWN"),
        (tags(), 404, "SOMETHING_ELSE", Code::NotFound, "REPOSITORY_UNKNOWN"),
        (manifest(), 401, "UNAUTHORIZED", Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED"),
        (blob(), 401, "UNAUTHORIZED", Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED"),
        (tags(), 403, "DENIED", Code::PermissionDenied, "REGISTRY_DENIED"),
        (blob(), 403, "DENIED", Code::PermissionDenied, "REGISTRY_DENIED"),
        (tags(), 405, "UNSUPPORTED", Code::Unimplemented, "UNSUPPORTED_BY_REGISTRY"),
        (manifest(), 501, "UNSUPPORTED", Code::Unimplemented, "UNSUPPORTED_BY_REGISTRY"),
        (manifest(), 429, "TOOMANYREQUESTS", Code::ResourceExhausted, "REGISTRY_RATE_LIMITED"),
        (manifest(), 500, "UNKNOWN", Code::Unavailable, "REGISTRY_UNAVAILABLE"),
        (blob(), 503, "UNKNOWN", Code::Unavailable, "REGISTRY_UNAVAILABLE"),
        (manifest(), 400, "MANIFEST_INVALID", Code::Internal, "REGISTRY_INVALID_RESPONSE"),
    ] {
        let context = format!("{call:?} {status} {oci_code}");
        let failure = failure(&call, envelope(status, oci_code)).await;
        assert_eq!((failure.status.code(), failure.reason.as_str()), (code, reason), "{context}");
        let metadata = &failure.metadata;
        assert_eq!(metadata["registry"], REGISTRY, "{context}");
        assert_eq!(metadata["repository"], "org/app", "{context}");
        assert_eq!(metadata["http_status"], status.to_string(), "{context}");
        assert_eq!(metadata["oci_code"], oci_code, "{context}");
        let names_a_resource =
            matches!(code, Code::NotFound | Code::Unauthenticated | Code::PermissionDenied);
        assert_eq!(failure.details.resource_info().is_some(), names_a_resource, "{context}");
    }
}

#[tokio::test]
async fn a_404_in_html_gets_the_reason_of_the_request_and_no_registry_code() {
    let html = Reply::status(404).header("Content-Type", "text/html").body("<h1>Not Found</h1>");
    for (call, code, reason) in [
        (tags(), Code::NotFound, "REPOSITORY_UNKNOWN"),
        (manifest(), Code::NotFound, "MANIFEST_UNKNOWN"),
        (blob(), Code::NotFound, "BLOB_UNKNOWN"),
        (Call::catalog(REGISTRY), Code::Unimplemented, "UNSUPPORTED_BY_REGISTRY"),
        (Call::ping(REGISTRY), Code::Unimplemented, "UNSUPPORTED_BY_REGISTRY"),
    ] {
        let failure = failure(&call, html.clone()).await;
        assert_eq!((failure.status.code(), failure.reason.as_str()), (code, reason), "{call:?}");
        assert_eq!(failure.metadata["http_status"], "404");
        assert_eq!(failure.metadata.get("oci_code"), None);
    }
}

#[tokio::test]
async fn a_malformed_error_body_has_no_code_and_the_call_still_gets_its_status() {
    let long = "A".repeat(65);
    for body in [
        "",
        "{",
        "null",
        "[]",
        "{\"errors\": []}",
        "{\"errors\": null}",
        "{\"errors\": [{}]}",
        "{\"errors\": [{\"code\": 404}]}",
        "{\"errors\": [{\"code\": \"not found\\r\\nx\"}]}",
        &format!("{{\"errors\": [{{\"code\": \"{long}\"}}]}}"),
        &"[".repeat(10_000),
        &" ".repeat(1 << 20),
    ] {
        let reply = Reply::status(404).header("Content-Type", "application/json").body(body);
        let failure = failure(&manifest(), reply).await;
        assert_eq!(failure.reason, "MANIFEST_UNKNOWN");
        assert_eq!(failure.metadata.get("oci_code"), None, "{:?}", failure.metadata);
    }
}

#[tokio::test]
async fn a_redirect_without_a_target_or_in_a_loop_is_an_invalid_response() {
    for location in [None, Some(""), Some("http://"), Some("/v2/org/app/manifests/v1")] {
        let mut reply = Reply::status(307);
        if let Some(location) = location {
            reply = reply.header("Location", location);
        }
        let failure = failure(&manifest(), reply).await;
        assert_eq!(failure.reason, "REGISTRY_INVALID_RESPONSE", "{location:?} {:?}", failure.status);
    }
}
