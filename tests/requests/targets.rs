//! Targets: well-formed registry names that the service must not connect to.

use rexd::grpc::proto::PingRequest;
use tonic::Code;

use crate::{
    REGISTRY, Setting,
    support::{
        call::Call,
        scripted::{Reply, ScriptedRegistry},
        service::Service,
    },
};

const NOT_ALLOWED: (Code, &str) = (Code::PermissionDenied, "REGISTRY_NOT_ALLOWED");

#[tokio::test]
async fn a_registry_that_is_not_listed_is_refused_in_every_rpc() {
    let mut setting = Setting::new(false).await;
    for registry in [
        "other.test",
        "registry.test",
        "registry.test:5001",
        "registry.test:50000",
        "sub.registry.test:5000",
        "docker.io",
        "127.0.0.1",
    ] {
        let (code, reason) = NOT_ALLOWED;
        for failure in setting.refuses(Call::each(registry), code, reason).await {
            assert_eq!(failure.metadata["registry"], registry, "{:?}", failure.status);
        }
    }
}

/// Names that a resolver or a URL parser reads as a private address.
const ODD_LITERALS: [&str; 22] = [
    "2130706433",
    "127.1",
    "0x7f.1",
    "0x7f000001",
    "0177.0.0.1",
    "127.0.0.1",
    "127.0.0.1:443",
    "0",
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "169.254.170.2:80",
    "100.100.100.200",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::7f00:1]",
    "[fe80::1]:5000",
];

#[tokio::test]
async fn a_private_address_is_refused_in_every_rpc_however_it_is_written() {
    let mut setting = Setting::new(true).await;
    for registry in ODD_LITERALS {
        let (code, reason) = NOT_ALLOWED;
        for failure in setting.refuses(Call::each(registry), code, reason).await {
            let canonical = registry.strip_suffix(":443").unwrap_or(registry);
            assert_eq!(failure.metadata["registry"], canonical, "{:?}", failure.status);
        }
    }
}

#[tokio::test]
async fn a_registry_is_the_same_with_its_default_port_and_with_leading_zeros() {
    for (listed, names) in [
        ("registry.test", ["registry.test", "registry.test:443", "Registry.test:0443"]),
        ("registry.test:443", ["registry.test", "registry.test:443", "registry.test:00443"]),
        ("registry.test:05000", ["registry.test:5000", "registry.test:05000", "registry.test:0005000"]),
    ] {
        let registry = ScriptedRegistry::start().await;
        registry.always("GET", "/v2/", Reply::status(200));
        let service = Service::in_front_of(listed, registry.address()).await;
        let mut client = service.client().await;
        for name in names {
            let response = client.ping(PingRequest { registry: name.to_owned() }).await.unwrap().into_inner();
            let canonical = if listed.ends_with("5000") { "registry.test:5000" } else { "registry.test" };
            assert_eq!(response.registry, canonical, "{listed} and {name}");
        }
        assert_eq!(registry.requests().len(), 3, "{listed}");
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_refused() {
    let mut setting = Setting::new(true).await;
    let port = setting.registry.address().port();
    let (code, reason) = NOT_ALLOWED;
    let calls = Call::each("localhost").into_iter().chain(Call::each(&format!("localhost:{port}")));
    setting.refuses(calls, code, reason).await;
}

#[tokio::test]
async fn an_empty_registry_is_the_default_one() {
    let mut setting = Setting::new(false).await;
    setting.registry.on("GET", "/v2/", [Reply::status(200)]);
    let request = PingRequest::default();
    let pong = setting.client.ping(request).await.unwrap().into_inner();
    assert_eq!(pong.registry, REGISTRY);
    assert!(setting.registry.missing().is_empty());
}
