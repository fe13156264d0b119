//! Tests of what the other tests use, over real HTTP: the sample registry, the fault proxy and the scripted registry.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod content;
mod fault;
mod licenses;
mod registry;
mod resume;
mod scripted;
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;

use bytes::Bytes;
use reqwest::{Client, Method, Response};
use rexd::demo::APP;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A client that talks to loopback even where the environment names a proxy.
fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

async fn request(method: Method, address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = client().request(method, format!("http://{address}{target}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

async fn get(address: SocketAddr, target: &str) -> Response {
    request(Method::GET, address, target, &[]).await
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn json(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

fn sha256(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The target and the bytes of the large layer of [`APP`].
fn large_blob() -> (String, Bytes) {
    let sample = support::sample();
    let (digest, blob) = sample.repository(APP).unwrap().blobs().max_by_key(|(_, blob)| blob.len()).unwrap();
    (format!("/v2/{APP}/blobs/{digest}"), blob.clone())
}
