//! Redirects carry nothing to another origin – host, port or scheme – and are followed a few times only (GHSA-vh4v-2xq2-g5cg,
//! go-containerregistry#2349).

use std::net::SocketAddr;

use http::HeaderValue;
use rexd::client::Settings;
use tonic::Code;

use crate::{
    canary::Canary,
    forbidden_listener::ForbiddenListener,
    support::{
        calls::{Calls, Files, assert_refused, signed_in},
        scripted::{Reply, ScriptedRegistry},
        service::with_http,
        token_server::{basic_of, content},
    },
    tls::Front,
};

/// A registry that requires Basic and redirects to `location`, except requests below `/moved`.
async fn redirecting_to(registry: &ScriptedRegistry, status: u16, location: String) {
    registry.otherwise(move |request| {
        Some(if request.target.starts_with("/moved") {
            content("/v2/team/app/tags/list", "moved")
        } else if basic_of(request).is_none() {
            Reply::status(401).header("WWW-Authenticate", "Basic realm=\"r\"")
        } else {
            Reply::status(status).header("Location", location.clone())
        })
    });
}

/// A registry with the canary as its password, and as a header of its own.
fn with_canaries(address: SocketAddr, files: &Files, canary: &Canary) -> Settings {
    let mut settings = signed_in(address, files.password("alice", &canary.secret), None);
    let key = HeaderValue::from_str(&canary.secret).unwrap();
    settings.http.headers.insert("x-gateway-key", key);
    settings
}

/// The server that a redirect leads to.
async fn elsewhere() -> ScriptedRegistry {
    let elsewhere = ScriptedRegistry::start().await;
    elsewhere.otherwise(|request| {
        (request.target == "/moved").then(|| content("/v2/team/app/tags/list", "moved"))
    });
    elsewhere
}

#[tokio::test]
async fn the_registrys_own_origin_keeps_its_credentials_through_a_redirect() {
    let (canary, files, registry) = (Canary::new(), Files::new(), ScriptedRegistry::start().await);
    redirecting_to(&registry, 307, "/moved".to_owned()).await;
    let calls = Calls::to(with_canaries(registry.address(), &files, &canary)).await;
    assert_eq!(calls.served("team/app").await.unwrap(), "moved");
    let last = registry.requests().pop().unwrap();
    assert!(last.target.starts_with("/moved") && canary.is_in_request(&last));
    canary.assert_not_leaked([]);
}

#[tokio::test]
async fn a_redirect_to_another_port_host_or_scheme_carries_no_credential_and_no_header() {
    for status in [301, 302, 303, 307, 308] {
        let (canary, files, registry) = (Canary::new(), Files::new(), ScriptedRegistry::start().await);
        let (other, secured) = (elsewhere().await, elsewhere().await);
        let front = Front::before(secured.address(), &files).await;
        let port = registry.address().port();
        for (origin, server) in [
            (format!("http://{}", other.address()), &other),
            // The same server by another name is another origin.
            (format!("http://localhost:{port}"), &registry),
            (format!("https://{}", front.address), &secured),
        ] {
            redirecting_to(&registry, status, format!("{origin}/moved")).await;
            let calls = Calls::to(with_http(with_canaries(registry.address(), &files, &canary), |http| {
                http.trusted_origins = vec![origin.parse().unwrap()];
                http.ca_file = Some(front.ca_file.clone());
            }))
            .await;
            assert_eq!(calls.served("team/app").await.unwrap(), "moved", "{status} {origin}");
            let moved: Vec<_> = server.requests();
            let moved = moved.iter().filter(|request| request.target == "/moved");
            let moved: Vec<_> = moved.collect();
            assert!(!moved.is_empty(), "{origin}");
            for request in moved {
                assert!(!canary.is_in_request(request), "{status} {origin}: {request:?}");
                assert_eq!(request.header("authorization"), None);
                assert_eq!(request.header("x-gateway-key"), None);
                assert_eq!(request.header("referer"), None);
            }
        }
        canary.assert_not_leaked([]);
    }
}

#[tokio::test]
async fn headers_removed_by_a_redirect_stay_removed_on_a_redirect_back() {
    let (canary, files, registry) = (Canary::new(), Files::new(), ScriptedRegistry::start().await);
    let storage = ScriptedRegistry::start().await;
    redirecting_to(&registry, 307, format!("http://{}/out", storage.address())).await;
    let back = format!("http://{}/moved/v2/secret/app/tags/list", registry.address());
    storage.otherwise(move |_| Some(Reply::status(307).header("Location", back.clone())));
    let calls = Calls::to(with_http(with_canaries(registry.address(), &files, &canary), |http| {
        http.trusted_origins = vec![format!("http://{}", storage.address()).parse().unwrap()]
    }))
    .await;
    assert_eq!(calls.served("team/app").await.unwrap(), "moved");
    let last = registry.requests().pop().unwrap();
    assert!(last.target.starts_with("/moved"), "{last:?}");
    assert!(!canary.is_in_request(&last), "{last:?}");
    assert_eq!((last.header("authorization"), last.header("x-gateway-key")), (None, None));
    canary.assert_not_leaked([]);
}

#[tokio::test]
async fn a_challenge_after_a_redirect_to_another_origin_and_back_gets_no_credentials() {
    let (canary, files, registry) = (Canary::new(), Files::new(), ScriptedRegistry::start().await);
    let storage = ScriptedRegistry::start().await;
    let (out, back) = (format!("http://{}/out", storage.address()), registry.address());
    registry.otherwise(move |request| {
        Some(if basic_of(request).is_none() {
            Reply::status(401).header("WWW-Authenticate", "Basic realm=\"r\"")
        } else {
            Reply::status(307).header("Location", out.clone())
        })
    });
    let secret = "/v2/secret/app/tags/list";
    storage.otherwise(move |_| Some(Reply::status(307).header("Location", format!("http://{back}{secret}"))));
    let calls = Calls::to(with_http(with_canaries(registry.address(), &files, &canary), |http| {
        http.trusted_origins = vec![format!("http://{}", storage.address()).parse().unwrap()]
    }))
    .await;
    let refused = calls.served("team/app").await;
    let refused = assert_refused(refused, Code::Unauthenticated, "REGISTRY_UNAUTHENTICATED");
    let there =
        registry.requests().into_iter().filter(|request| request.target == secret).collect::<Vec<_>>();
    assert!(!there.is_empty() && there.iter().all(|request| !canary.is_in_request(request)), "{there:?}");
    canary.assert_not_leaked([&refused]);
}

#[tokio::test]
async fn a_redirect_to_an_untrusted_origin_is_refused_before_connecting() {
    let (canary, files, registry) = (Canary::new(), Files::new(), ScriptedRegistry::start().await);
    let forbidden = ForbiddenListener::start().await;
    let port = forbidden.port();
    let calls = Calls::to(with_canaries(registry.address(), &files, &canary)).await;
    for location in [
        format!("http://127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://localhost:{port}/"),
        format!("//127.0.0.1:{port}/"),
        "ftp://storage.example/".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        redirecting_to(&registry, 307, location.clone()).await;
        let refused = calls.served("team/app").await;
        let refused = assert_refused(refused, Code::PermissionDenied, "REGISTRY_NOT_ALLOWED");
        canary.assert_not_leaked([&refused]);
    }
    forbidden.assert_no_connection();
}

#[tokio::test]
async fn no_redirect_from_https_to_http_is_followed_even_to_a_trusted_origin() {
    let (canary, files, registry) = (Canary::new(), Files::new(), ScriptedRegistry::start().await);
    let (front, forbidden) =
        (Front::before(registry.address(), &files).await, ForbiddenListener::start().await);
    redirecting_to(&registry, 307, format!("http://{}/moved", forbidden.address)).await;
    let calls = Calls::to(Settings {
        url: format!("https://{}", front.address).parse().unwrap(),
        ..with_http(with_canaries(registry.address(), &files, &canary), |http| {
            http.trusted_origins = vec![format!("http://{}", forbidden.address).parse().unwrap()];
            http.ca_file = Some(front.ca_file.clone());
        })
    })
    .await;
    let refused = calls.served("team/app").await;
    let refused = assert_refused(refused, Code::PermissionDenied, "REGISTRY_NOT_ALLOWED");
    assert!(refused.message().contains("https to http"), "{refused:?}");
    forbidden.assert_no_connection();
    canary.assert_not_leaked([&refused]);
}

#[tokio::test]
async fn endless_redirects_end_after_five() {
    let (canary, files, registry) = (Canary::new(), Files::new(), ScriptedRegistry::start().await);
    let origin = format!("http://{}", registry.address());
    registry.otherwise(move |request| {
        let target = request.target.split('?').next().unwrap();
        Some(Reply::status(302).header("Location", format!("{origin}{target}x?again")))
    });
    let calls = Calls::to(with_canaries(registry.address(), &files, &canary)).await;
    let refused = calls.manifest("team/app", "v1").await;
    let refused = assert_refused(refused, Code::Internal, "REGISTRY_INVALID_RESPONSE");
    assert!(refused.message().contains("redirects"), "{refused:?}");
    assert!(registry.requests().len() <= 12, "the challenge and the call, six requests each");
    canary.assert_not_leaked([&refused]);
}

#[tokio::test]
async fn secrets_in_the_location_of_a_redirect_are_neither_sent_on_nor_logged() {
    let (canary, files, registry) = (Canary::new(), Files::new(), ScriptedRegistry::start().await);
    let (storage, foreign) = (elsewhere().await, Canary::new());
    storage.otherwise(|_| Some(Reply::status(404)));
    let location = format!(
        "http://user:{secret}@{}/moved?signature={secret}#{secret}",
        storage.address(),
        secret = foreign.secret
    );
    redirecting_to(&registry, 307, location).await;
    let calls = Calls::to(with_http(with_canaries(registry.address(), &files, &canary), |http| {
        http.trusted_origins = vec![format!("http://{}", storage.address()).parse().unwrap()]
    }))
    .await;
    let refused = assert_refused(calls.served("team/app").await, Code::NotFound, "REPOSITORY_UNKNOWN");
    let request = storage.requests().pop().unwrap();
    assert!(request.target.contains("signature="), "the query belongs to the address");
    assert_eq!(request.header("authorization"), None, "user information is not sent");
    canary.assert_not_leaked([&refused]);
    foreign.assert_not_leaked([&refused]);
}
