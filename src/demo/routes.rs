//! Responds to requests: the endpoints for reading of the [OCI Distribution Specification] v1.1, "Endpoints", and
//! the catalog of [distribution], which the specification only mentions.
//!
//! | id | path |
//! |---|---|
//! | end-1 | `/v2/` |
//! | end-2 | `/v2/<name>/blobs/<digest>` |
//! | end-3 | `/v2/<name>/manifests/<reference>` |
//! | end-8 | `/v2/<name>/tags/list` |
//! | – | `/v2/_catalog` |
//!
//! There is no I/O and no state: every response is a function of the sample and the request. `Accept` is ignored, as in
//! most registries, which return a manifest as it was pushed.
//!
//! [OCI Distribution Specification]: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#endpoints
//! [distribution]: https://distribution.github.io/distribution/spec/api/#catalog

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, response::Builder};
use http_body_util::Full;
use oci_spec::{distribution::ErrorCode, image::Digest};
use serde_json::{Value, json};

use super::{
    page::{Page, PageRequest},
    range::Selection,
    sample::{Sample, SampleRepository},
};

type HttpResult = Result<Response<Full<Bytes>>, http::Error>;

const DOCKER_CONTENT_DIGEST: &str = "docker-content-digest";

/// Responds to a request. The server omits the body of a response to HEAD.
pub(super) fn respond<B>(sample: &Sample, request: &Request<B>) -> HttpResult {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let refusal = builder(StatusCode::METHOD_NOT_ALLOWED).header(header::ALLOW, "GET, HEAD");
        return refuse(refusal, ErrorCode::Unsupported, "this registry is read-only");
    }
    let path = request.uri().path();
    let Some(path) = path.strip_prefix("/v2/").or((path == "/v2").then_some("")) else {
        return refuse(
            builder(StatusCode::NOT_FOUND),
            ErrorCode::Unsupported,
            "not a path of the Distribution API",
        );
    };
    match path {
        "" => send(builder(StatusCode::OK), &json!({})),
        "_catalog" => catalog(sample, request),
        _ => match Endpoint::parse(path) {
            None => refuse(builder(StatusCode::NOT_FOUND), ErrorCode::Unsupported, "no such endpoint"),
            Some((name, endpoint)) => match sample.repository(name) {
                None => {
                    refuse(builder(StatusCode::NOT_FOUND), ErrorCode::NameUnknown, "repository not known")
                }
                Some(repository) => match endpoint {
                    Endpoint::Tags => tags(name, repository, request),
                    Endpoint::Manifest(reference) => manifest(repository, reference),
                    Endpoint::Blob(digest) => blob(repository, digest, request),
                },
            },
        },
    }
}

/// An endpoint below a repository.
enum Endpoint<'a> {
    Tags,
    Manifest(&'a str),
    Blob(&'a str),
}

impl<'a> Endpoint<'a> {
    /// Splits `<name>/tags/list` and its siblings. The name may contain slashes, even `/tags/`. The rest contains none.
    fn parse(path: &'a str) -> Option<(&'a str, Self)> {
        let (rest, last) = path.rsplit_once('/')?;
        let (name, kind) = rest.rsplit_once('/')?;
        match (kind, last) {
            ("tags", "list") => Some((name, Self::Tags)),
            ("manifests", reference) => Some((name, Self::Manifest(reference))),
            ("blobs", digest) => Some((name, Self::Blob(digest))),
            _ => None,
        }
    }
}

fn catalog<B>(sample: &Sample, request: &Request<B>) -> HttpResult {
    page(request, sample.repositories(), |names| json!({ "repositories": names }))
}

fn tags<B>(name: &str, repository: &SampleRepository, request: &Request<B>) -> HttpResult {
    page(request, repository.tags(), |tags| json!({ "name": name, "tags": tags }))
}

fn page<'a, B>(
    request: &Request<B>,
    names: impl Iterator<Item = &'a str>,
    document: impl FnOnce(Vec<&'a str>) -> Value,
) -> HttpResult {
    let Ok(asked) = PageRequest::from_query(request.uri().query().unwrap_or_default()) else {
        return refuse(builder(StatusCode::BAD_REQUEST), ErrorCode::Unsupported, "n must be a whole number");
    };
    let Page { names, next } = asked.cut(names);
    let mut response = builder(StatusCode::OK);
    if let Some(query) = next {
        // RFC 8288, with an absolute path as in the specification's example.
        let link = format!("<{}?{query}>; rel=\"next\"", request.uri().path());
        response = response.header(header::LINK, link);
    }
    send(response, &document(names))
}

fn manifest(repository: &SampleRepository, reference: &str) -> HttpResult {
    let Some(manifest) = repository.manifest(reference) else {
        return refuse(builder(StatusCode::NOT_FOUND), ErrorCode::ManifestUnknown, "manifest unknown");
    };
    let descriptor = manifest.descriptor();
    builder(StatusCode::OK)
        .header(header::CONTENT_TYPE, descriptor.media_type().as_ref())
        .header(header::CONTENT_LENGTH, descriptor.size())
        .header(DOCKER_CONTENT_DIGEST, descriptor.digest().as_ref())
        .body(Full::new(manifest.content().clone()))
}

fn blob<B>(repository: &SampleRepository, digest: &str, request: &Request<B>) -> HttpResult {
    let Ok(digest) = digest.parse::<Digest>() else {
        return refuse(builder(StatusCode::BAD_REQUEST), ErrorCode::DigestInvalid, "digest is not valid");
    };
    let Some(blob) = repository.blob(&digest) else {
        return refuse(builder(StatusCode::NOT_FOUND), ErrorCode::BlobUnknown, "blob unknown to registry");
    };
    let size = blob.len();
    let (status, content, content_range) = match selection(request, size as u64) {
        Selection::Whole => (StatusCode::OK, blob.clone(), None),
        Selection::Part { first, last } => {
            let range = format!("bytes {first}-{last}/{size}");
            // Both are below the blob's length, which is a usize.
            (StatusCode::PARTIAL_CONTENT, blob.slice(first as usize..=last as usize), Some(range))
        }
        Selection::Unsatisfiable => {
            (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new(), Some(format!("bytes */{size}")))
        }
    };
    let mut response = builder(status)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, content.len())
        .header(header::ACCEPT_RANGES, "bytes")
        .header(DOCKER_CONTENT_DIGEST, digest.as_ref());
    if let Some(range) = content_range {
        response = response.header(header::CONTENT_RANGE, range);
    }
    response.body(Full::new(content))
}

/// RFC 9110 gives `Range` a meaning for GET only. `If-Range` cannot match, because no response has a validator.
/// Section 13.1.5 then requires the whole blob.
fn selection<B>(request: &Request<B>, size: u64) -> Selection {
    let headers = request.headers();
    if request.method() != Method::GET || headers.contains_key(header::IF_RANGE) {
        return Selection::Whole;
    }
    match headers.get(header::RANGE).and_then(|range| range.to_str().ok()) {
        Some(range) => Selection::of(range, size),
        None => Selection::Whole,
    }
}

fn builder(status: StatusCode) -> Builder {
    Response::builder().status(status).header("docker-distribution-api-version", "registry/2.0")
}

/// The specification's error envelope, "Error Codes".
fn refuse(response: Builder, code: ErrorCode, message: &str) -> HttpResult {
    send(response, &json!({ "errors": [{ "code": code.to_string(), "message": message }] }))
}

fn send(response: Builder, document: &Value) -> HttpResult {
    let body = Bytes::from(document.to_string());
    response
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_LENGTH, body.len())
        .body(Full::new(body))
}
