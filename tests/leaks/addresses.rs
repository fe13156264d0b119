//! Addresses that the service must never connect to, however they are spelt: as the target of a redirect, and as the
//! registry that a caller names (go-containerregistry#2425, #2440, #2284; docker/model-runner#1050).

use rexd::{client::Settings, grpc::proto::PingRequest};
use tonic::Code;

use crate::{
    canary::Canary,
    forbidden_listener::ForbiddenListener,
    support::{
        calls::{Calls, Files, NAME, assert_refused, signed_in},
        scripted::{Reply, ScriptedRegistry},
        service::{Options, settings, with_http},
    },
};

/// Spellings of loopback, private and link-local addresses.
const PRIVATE: [&str; 15] = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "10.0.0.1",
    "192.168.1.1",
    "[fe80::1]",
];

/// The metadata services of clouds, which hand out credentials.
const METADATA: [&str; 6] = [
    "169.254.169.254",
    "0xa9fea9fe",
    "2852039166",
    "[::ffff:169.254.169.254]",
    "[fd00:ec2::254]",
    "100.100.100.200",
];

/// A registry that redirects here.
async fn redirecting_to(registry: &ScriptedRegistry, location: &str) {
    let location = location.to_owned();
    registry.otherwise(move |_| Some(Reply::status(307).header("Location", location.clone())));
}

#[tokio::test]
async fn no_spelling_of_a_private_or_metadata_address_is_reached_by_a_redirect() {
    let (canary, files, forbidden) = (Canary::new(), Files::new(), ForbiddenListener::start().await);
    let registry = ScriptedRegistry::start().await;
    let source = files.password("alice", &canary.secret);
    let calls = Calls::to(signed_in(registry.address(), source, None)).await;
    let mut statuses = Vec::new();
    for host in PRIVATE.iter().chain(&METADATA) {
        for scheme in ["http", "https"] {
            let location = format!("{scheme}://{host}:{}/latest/meta-data", forbidden.port());
            redirecting_to(&registry, &location).await;
            let refused = calls.manifest("team/app", "v1").await;
            statuses.push(assert_refused(refused, Code::PermissionDenied, "REGISTRY_NOT_ALLOWED"));
        }
    }
    canary.assert_not_leaked(&statuses);
    forbidden.assert_no_connection();
}

#[tokio::test]
async fn a_metadata_address_is_refused_even_where_the_operator_names_it() {
    for host in METADATA {
        let registry = ScriptedRegistry::start().await;
        redirecting_to(&registry, &format!("http://{host}/latest/meta-data")).await;
        let calls = Calls::to(with_http(settings(NAME, registry.address()), |http| {
            http.trusted_origins = vec![format!("http://{host}").parse().unwrap()]
        }))
        .await;
        let refused = calls.manifest("team/app", "v1").await;
        let refused = assert_refused(refused, Code::PermissionDenied, "REGISTRY_NOT_ALLOWED");
        assert!(refused.message().contains("metadata"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_this_machine_is_refused_when_it_is_resolved() {
    let (registry, forbidden) = (ScriptedRegistry::start().await, ForbiddenListener::start().await);
    redirecting_to(&registry, &format!("https://localhost:{}/", forbidden.port())).await;
    let calls = Calls::to(settings(NAME, registry.address())).await;
    let refused = calls.manifest("team/app", "v1").await;
    let refused = assert_refused(refused, Code::PermissionDenied, "REGISTRY_NOT_ALLOWED");
    assert!(refused.message().contains("resolves to a private address"), "{refused:?}");
    forbidden.assert_no_connection();
}

#[tokio::test]
async fn a_caller_cannot_name_a_registry_on_this_machine_when_any_registry_may_be_named() {
    let (canary, files, forbidden) = (Canary::new(), Files::new(), ForbiddenListener::start().await);
    let registry = ScriptedRegistry::start().await;
    let listed = signed_in(registry.address(), files.password("alice", &canary.secret), None);
    let options = Options { allow_unlisted: true, ..Options::default() };
    let calls = Calls::with(vec![listed], options).await;
    let port = forbidden.port();
    for host in [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        format!("0.0.0.0:{port}"),
        "169.254.169.254".to_owned(),
        format!("127.1:{port}"),
        format!("2130706433:{port}"),
    ] {
        let request = PingRequest { registry: host };
        let refused = calls.client.clone().ping(request).await.unwrap_err();
        assert!(matches!(refused.code(), Code::PermissionDenied | Code::InvalidArgument), "{refused:?}");
        canary.assert_not_leaked([&refused]);
    }
    forbidden.assert_no_connection();
}

#[tokio::test]
async fn a_listed_registry_on_a_private_address_works_by_address_and_by_name() {
    Canary::new();
    let registry = ScriptedRegistry::start().await;
    registry.always("GET", "/v2/", Reply::status(200));
    for host in ["127.0.0.1", "localhost"] {
        let calls = Calls::to(Settings {
            url: format!("http://{host}:{}", registry.address().port()).parse().unwrap(),
            ..settings(NAME, registry.address())
        })
        .await;
        calls.ping().await.unwrap();
    }
}
