//! How old a response may be, and what the metadata says about it.

use std::time::Duration;

use tonic::Code;

use crate::{
    Got, REGISTRY, defaults, manifest, pass,
    registry::{Registry, digest_of, manifest_with},
    service, stale_if_error,
    support::status::Failure,
};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn source_and_age(got: &Got) -> (&str, u64) {
    (&got.source, got.age)
}

#[tokio::test]
async fn the_metadata_says_where_a_response_came_from_and_how_old_it_is() {
    let registry = Registry::start().await;
    let service = service(&registry, rexd::reads::Settings { tags: s(30), ..defaults() }).await;
    let client = service.client().await;
    registry.push("latest", 1);
    let read = async |max_age| manifest(&client, "latest", max_age).await.unwrap();
    assert_eq!(source_and_age(&read(None).await), ("miss", 0));
    pass(s(20)).await;
    assert_eq!(source_and_age(&read(None).await), ("hit", 20));
    assert_eq!(source_and_age(&read(Some(s(60))).await), ("hit", 20));
    assert_eq!(source_and_age(&read(Some(s(10))).await), ("revalidated", 0));
    pass(s(31)).await;
    assert_eq!(source_and_age(&read(None).await), ("revalidated", 0));
    assert_eq!(source_and_age(&read(Some(s(0))).await), ("revalidated", 0));
    pass(s(29)).await;
    assert_eq!(source_and_age(&read(None).await), ("hit", 29));
    assert_eq!(registry.take_counts(), (3, 1));
    registry.push("latest", 2);
    assert_eq!(read(None).await.number, 1, "30 seconds have not passed");
    pass(s(2)).await;
    let got = read(None).await;
    assert_eq!((got.number, source_and_age(&got)), (2, ("miss", 0)));
}

#[tokio::test]
async fn no_response_is_older_than_the_access_check() {
    let registry = Registry::start().await;
    let settings = rexd::reads::Settings { tags: s(3600), access_check: s(60), ..defaults() };
    let service = service(&registry, settings).await;
    let client = service.client().await;
    let digest = registry.push("latest", 1);
    for reference in ["latest", &digest] {
        manifest(&client, reference, None).await.unwrap();
        pass(s(59)).await;
        let got = manifest(&client, reference, Some(s(86_400))).await.unwrap();
        assert_eq!(got.source, "hit", "{reference}");
        pass(s(2)).await;
        let got = manifest(&client, reference, Some(s(86_400))).await.unwrap();
        assert_eq!(got.source, "revalidated", "{reference}");
    }
}

/// What the registry closes is closed here too, within the access check.
#[tokio::test]
async fn a_repository_that_the_registry_closes_is_closed_within_the_access_check() {
    for status in [401, 403, 404] {
        let registry = Registry::start().await;
        let settings = rexd::reads::Settings { stale_if_error: stale_if_error(s(3600)), ..defaults() };
        let service = service(&registry, settings).await;
        let client = service.client().await;
        let digest = registry.push("latest", 1);
        manifest(&client, "latest", None).await.unwrap();
        manifest(&client, &digest, None).await.unwrap();
        registry.state().failing = Some(status);
        assert!(
            manifest(&client, "latest", None).await.is_err(),
            "{status}: a tag is asked for at each read"
        );
        assert!(manifest(&client, "latest", Some(s(300))).await.is_err(), "{status}: and is forgotten then");
        assert_eq!(manifest(&client, &digest, None).await.unwrap().source, "hit", "{status}");
        pass(s(301)).await;
        for _ in 0..2 {
            assert!(manifest(&client, &digest, None).await.is_err(), "{status}");
        }
        // A day later it is still not given as a stale response.
        registry.state().failing = Some(503);
        assert!(manifest(&client, &digest, None).await.is_err(), "{status}, then 503");
    }
}

#[tokio::test]
async fn a_stale_response_is_given_only_when_the_registry_does_not_respond() {
    let registry = Registry::start().await;
    let settings = rexd::reads::Settings { stale_if_error: stale_if_error(s(600)), ..defaults() };
    let service = service(&registry, settings).await;
    let client = service.client().await;
    let digest = registry.push("latest", 1);
    manifest(&client, "latest", None).await.unwrap();
    manifest(&client, &digest, None).await.unwrap();
    pass(s(400)).await;
    for status in [500, 502, 503, 429] {
        registry.state().failing = Some(status);
        for reference in ["latest", &digest] {
            let got = manifest(&client, reference, None).await.unwrap();
            assert_eq!((got.number, got.source.as_str()), (1, "stale"), "{status} {reference}");
            assert!((400..500).contains(&got.age), "{status} {reference}: {}", got.age);
            // A caller who wants it newer gets the error.
            let refused = manifest(&client, reference, Some(s(100))).await.unwrap_err();
            assert!(matches!(refused.code(), Code::Unavailable | Code::ResourceExhausted), "{refused:?}");
        }
    }
    pass(s(201)).await;
    assert!(manifest(&client, "latest", None).await.is_err(), "it is too old now");
    registry.state().failing = None;
    // The registry asked for a pause with its 429.
    pass(s(60)).await;
    assert_eq!(manifest(&client, "latest", None).await.unwrap().source, "revalidated");
}

#[tokio::test]
async fn without_stale_if_error_an_outage_is_an_error() {
    let registry = Registry::start().await;
    let service = service(&registry, defaults()).await;
    let client = service.client().await;
    registry.push("latest", 1);
    manifest(&client, "latest", None).await.unwrap();
    registry.state().failing = Some(503);
    let refused = manifest(&client, "latest", None).await.unwrap_err();
    Failure::expect(refused, Code::Unavailable, "REGISTRY_UNAVAILABLE", REGISTRY);
}

#[tokio::test]
async fn what_is_absent_is_asked_for_again_unless_the_configuration_says_otherwise() {
    for (absent, requests) in [(s(0), 4), (s(5), 1)] {
        let registry = Registry::start().await;
        let service = service(&registry, rexd::reads::Settings { absent, ..defaults() }).await;
        let client = service.client().await;
        for _ in 0..4 {
            assert_eq!(manifest(&client, "new", None).await.unwrap_err().code(), Code::NotFound);
        }
        let (heads, gets) = registry.take_counts();
        assert_eq!((heads, gets), (0, requests), "absent: {absent:?}");
        registry.push("new", 1);
        assert_eq!(manifest(&client, "new", Some(s(0))).await.unwrap().number, 1, "asked now");
        assert_eq!(manifest(&client, "new", None).await.unwrap().number, 1);
    }
}

#[tokio::test]
async fn a_negative_max_age_is_refused_and_names_the_field() {
    let registry = Registry::start().await;
    let service = service(&registry, defaults()).await;
    let mut client = service.client().await;
    for (seconds, nanos) in [(-1, 0), (0, -1), (i64::MIN, 0), (0, 1_000_000_000), (1, -5)] {
        let request = rexd::grpc::proto::GetManifestRequest {
            registry: REGISTRY.to_owned(),
            repository: crate::REPOSITORY.to_owned(),
            reference: "latest".to_owned(),
            max_age: Some(prost_types::Duration { seconds, nanos }),
            ..rexd::grpc::proto::GetManifestRequest::default()
        };
        let failure = Failure::of(client.get_manifest(request).await.unwrap_err());
        assert_eq!(failure.status.code(), Code::InvalidArgument, "{seconds} {nanos}");
        assert_eq!(failure.fields(), ["max_age"], "{seconds} {nanos}");
    }
    assert_eq!(registry.take_counts(), (0, 0));
}

/// A HEAD that says another digest than the GET: the content is what a GET sent, and its digest is computed.
#[tokio::test]
async fn a_registry_whose_head_lies_gets_no_wrong_byte_through() {
    let registry = Registry::start().await;
    let service = service(&registry, defaults()).await;
    let client = service.client().await;
    let first = registry.push("latest", 1);
    let other = digest_of(&manifest_with(99));
    assert_eq!(manifest(&client, "latest", None).await.unwrap().digest, first);
    for claimed in [other.as_str(), "sha256:00", "", "not a digest", &first] {
        registry.state().claimed = Some(claimed.to_owned());
        let got = manifest(&client, "latest", None).await.unwrap();
        assert_eq!((got.number, got.digest.as_str()), (1, first.as_str()), "{claimed}");
        let got = manifest(&client, &first, Some(s(0))).await.unwrap();
        assert_eq!((got.number, got.digest.as_str()), (1, first.as_str()), "{claimed}, by digest");
    }
    // A HEAD that claims the digest of what is kept, although the tag has moved, gives what the registry said it names.
    registry.push("latest", 2);
    registry.state().claimed = None;
    assert_eq!(manifest(&client, "latest", None).await.unwrap().number, 2);
}

#[tokio::test]
async fn a_registry_without_head_or_without_digests_is_read_with_get() {
    for status in [Some(404), Some(405), Some(500), None] {
        let registry = Registry::start().await;
        let service = service(&registry, defaults()).await;
        let client = service.client().await;
        registry.push("latest", 1);
        {
            let mut state = registry.state();
            state.head_status = status;
            state.hides_digest = status.is_none();
        }
        for number in 1..4 {
            registry.push("latest", number);
            let outcome = manifest(&client, "latest", None).await;
            if status == Some(500) && number > 1 {
                assert_eq!(outcome.unwrap_err().code(), Code::Unavailable);
            } else {
                assert_eq!(outcome.unwrap().number, number, "{status:?}");
            }
        }
    }
}
