//! What `/metrics` says after known calls.

use rexd::grpc::proto::{GetManifestRequest, PingRequest, StreamBlobRequest};
use tonic::Code;

use crate::{
    largest_blob,
    process::Service,
    support::{
        demo_registry,
        fault::{Fault, FaultProxy, When},
    },
};

/// The sum of the samples with this name whose labels include all of these.
fn sum(page: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let samples = page.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let found = series.split('{').next() == Some(name);
        let has = |(label, value): &(&str, &str)| {
            let value = if *label == "rpc_method" {
                format!("rex.registry.v1.RegistryService/{value}")
            } else {
                (*value).to_owned()
            };
            series.contains(&format!("{label}=\"{value}\""))
        };
        (found && labels.iter().all(has)).then(|| value.parse::<f64>().unwrap())
    });
    samples.sum()
}

fn manifest(registry: &str, reference: &str) -> GetManifestRequest {
    GetManifestRequest {
        registry: registry.to_owned(),
        repository: "sample/app".to_owned(),
        reference: reference.to_owned(),
        ..GetManifestRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_bytes_exchanges_and_the_cache_are_counted() {
    let registry = demo_registry().await;
    let proxy = FaultProxy::start(registry.address());
    let service = Service::start(proxy.address(), None);
    let mut client = service.client().await;
    client.get_manifest(manifest("", "v1")).await.unwrap();
    client.get_manifest(manifest("", "v1")).await.unwrap();
    assert_eq!(client.get_manifest(manifest("", "missing")).await.unwrap_err().code(), Code::NotFound);
    let (repository, digest) = largest_blob();
    let request = StreamBlobRequest { repository, digest, ..StreamBlobRequest::default() };
    proxy.inject(When::first(1, "/blobs/"), Fault::CutAfter(1_000_000));
    let mut stream = client.stream_blob(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let during = service.metrics();
    assert_eq!(sum(&during, "rexd_calls_running", &[("rpc_method", "StreamBlob")]), 1.0, "{during}");
    assert_eq!(sum(&during, "rpc_server_call_duration_seconds_count", &[("rpc_method", "StreamBlob")]), 0.0);
    while stream.message().await.unwrap().is_some() {}
    let page = service.metrics();
    let calls = |labels: &[(&str, &str)]| sum(&page, "rpc_server_call_duration_seconds_count", labels);
    let ok = [("rpc_response_status_code", "OK"), ("rexd_registry", "demo.local")];
    assert_eq!(calls(&[("rpc_method", "GetManifest"), ok[0], ok[1]]), 2.0, "{page}");
    assert_eq!(calls(&[("rpc_method", "GetManifest"), ("error_type", "MANIFEST_UNKNOWN")]), 1.0);
    assert_eq!(calls(&[("rpc_method", "StreamBlob"), ok[0]]), 1.0);
    assert_eq!(sum(&page, "rexd_calls_running", &[]), 0.0);
    assert!(sum(&page, "rexd_call_sent_bytes_total", &[("rpc_method", "StreamBlob")]) > 8_000_000.0);
    assert!(
        sum(&page, "rexd_registry_received_bytes_total", &[("rexd_registry", "demo.local")]) > 8_000_000.0
    );
    assert_eq!(sum(&page, "rexd_blob_resumes_total", &[]), 1.0);
    for (source, count) in [("miss", 2.0), ("revalidated", 1.0), ("hit", 0.0)] {
        assert_eq!(sum(&page, "rexd_cache_responses_total", &[("source", source)]), count, "{source}");
    }
    let exchanges =
        |labels: &[(&str, &str)]| sum(&page, "http_client_request_duration_seconds_count", labels);
    assert_eq!(exchanges(&[("http_request_method", "HEAD"), ("http_response_status_code", "200")]), 1.0);
    assert_eq!(exchanges(&[("http_response_status_code", "206")]), 1.0, "the resume");
    assert!(sum(&page, "process_memory_usage_bytes", &[]) > 1e6);
    assert!(sum(&page, "process_unix_file_descriptor_count", &[]) > 3.0);
    assert_eq!(sum(&page, "rexd_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert!(sum(&page, "rexd_memory_limit_bytes", &[]) > sum(&page, "rexd_memory_reserved_bytes", &[]));
}

/// Callers make up names of registries, repositories and references; none of them is in a label.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_callers_make_up_are_no_labels() {
    let registry = demo_registry().await;
    let service = Service::start(registry.address(), None);
    let mut client = service.client().await;
    client.ping(PingRequest::default()).await.unwrap();
    // The guard refuses the addresses, so nothing is looked up.
    assert!(client.get_manifest(manifest("10.99.0.1:5000", "v1")).await.is_err());
    let before = service.metrics().lines().count();
    for number in 0..40 {
        let mut request = manifest(&format!("10.99.1.{number}:5000"), &format!("canary-tag-{number}"));
        request.repository = format!("canary/repository-{number}");
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("x-request-id", format!("canary-id-{number}").parse().unwrap());
        assert!(client.get_manifest(request).await.is_err());
    }
    let page = service.metrics();
    assert!(!page.contains("canary") && !page.contains("10.99."), "{page}");
    assert!(page.contains("rexd_registry=\"other\""), "{page}");
    // Another outcome may be new, another name is not.
    assert!(page.lines().count() < before + 30, "{before} lines before, {} now", page.lines().count());
}

/// The names in the second column of the table of docs/metrics.md, and those of the first.
fn documented() -> (Vec<String>, Vec<String>) {
    let page = include_str!("../../docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 6);
    let cell =
        |row: &str, index: usize| row.split('|').nth(index).unwrap().trim().trim_matches('`').to_owned();
    rows.map(|row| (cell(row, 2), cell(row, 1))).unzip()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_has_every_metric_of_the_page_and_of_the_source() {
    let registry = demo_registry().await;
    let service = Service::start(registry.address(), None);
    let mut client = service.client().await;
    client.get_manifest(manifest("", "v1")).await.unwrap();
    let page = service.metrics();
    let (on_page, names) = documented();
    let served: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(served.len() > 10, "{page}");
    for name in served {
        assert!(
            on_page.iter().any(|known| known == name) || name == "target_info",
            "{name} is not in docs/metrics.md"
        );
    }
    let sources = [
        include_str!("../../src/metrics/mod.rs"),
        include_str!("../../src/metrics/call.rs"),
        include_str!("../../src/metrics/exchange.rs"),
        include_str!("../../src/metrics/process.rs"),
    ]
    .concat();
    for name in &names {
        assert!(sources.contains(&format!("\"{name}\"")), "{name} is not in src/metrics");
    }
    let literals = sources.split('"').skip(1).step_by(2);
    let is_metric =
        |text: &&str| text.contains('.') && !text.contains(' ') && text.split('.').next() == Some("rexd");
    for name in literals.filter(is_metric).filter(|name| *name != "rexd.registry") {
        assert!(names.iter().any(|known| known == name), "{name} is not in docs/metrics.md");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ops_port_shows_the_configuration_and_its_pages() {
    let registry = demo_registry().await;
    let secret =
        format!("{{demo.local: {{url: \"http://{}\", headers: {{X-Key: canary}}}}}}", registry.address());
    let service = Service::start_with(registry.address(), None, &[("REXD_REGISTRIES", &secret)]);
    service.client().await.ping(PingRequest::default()).await.unwrap();
    let configuration = service.page("/configz");
    for path in ["/configz", "/metrics", "/"] {
        assert!(!service.page(path).contains("canary"), "{path} shows a secret");
    }
    for part in ["demo.local", "REXD_REGISTRIES", "max_streams"] {
        assert!(configuration.contains(part), "{part}: {configuration}");
    }
    let index = service.page("/");
    for path in ["/livez", "/readyz", "/metrics", "/configz"] {
        assert!(index.contains(path), "{index}");
    }
}
