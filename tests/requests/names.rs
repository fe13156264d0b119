//! Names: registries and repositories, in every RPC that takes one.

use crate::{REGISTRY, Setting, support::call::Call};

/// Malformed names of any kind, which must never become part of a URL.
const NEVER_A_NAME: [&str; 22] = [
    "..",
    "../x",
    "a/../b",
    "a//b",
    "/a",
    "a/",
    "a%2e",
    "%2e%2e",
    "a%2fb",
    "a\0b",
    "a\r\nHost: b",
    "a\nb",
    "a b",
    " a",
    "a?b=c",
    "a#b",
    "a@b",
    "a\\b",
    "a;b",
    "ä",
    "аpp",
    "a\u{202e}b",
];

#[tokio::test]
async fn a_malformed_repository_is_invalid_in_every_rpc_that_names_one() {
    let mut setting = Setting::new(false).await;
    let too_long = "a".repeat(256);
    let huge = "a/".repeat(20_000);
    let only_repositories = [
        "", "Org/app", "org/APP", "a..b", "a___b", "a._b", "-a", "a-", "_a", "a_", ".a", "a.", ".", "a/-b",
        "a:b", "a/.", "a/./b",
    ];
    let wrong = NEVER_A_NAME.into_iter().chain(only_repositories).chain([too_long.as_str(), huge.as_str()]);
    for repository in wrong {
        let calls = Call::each_with_repository(REGISTRY, repository);
        setting.refuses_field("repository", calls).await;
    }
}

#[tokio::test]
async fn a_malformed_registry_is_invalid_in_every_rpc() {
    // Unlisted registries are allowed here, so only the grammar keeps the name out of a URL.
    let mut setting = Setting::new(true).await;
    let too_long = format!("{}.example", "a".repeat(255));
    let long_label = format!("{}.example", "a".repeat(64));
    let only_registries = [
        "https://registry.test",
        "registry.test/",
        "registry.test/org",
        "user@registry.test",
        "user:pass@registry.test",
        "registry.test:",
        "registry.test:0",
        "registry.test:65536",
        "registry.test:port",
        "registry.test:+80",
        "registry.test:80:80",
        ":5000",
        "-registry.test",
        "registry-.test",
        "registry..test",
        ".registry.test",
        "registry.test.",
        "registry_test",
        "*",
        "[::1",
        "::1",
        "[::1]x",
        "[::1%25eth0]",
        "[registry.test]",
    ];
    let wrong =
        NEVER_A_NAME.into_iter().chain(only_registries).chain([too_long.as_str(), long_label.as_str()]);
    for registry in wrong {
        setting.refuses_field("registry", Call::each(registry)).await;
    }
}

#[tokio::test]
async fn the_longest_names_are_valid() {
    let mut setting = Setting::new(false).await;
    let repository = "a".repeat(255);
    setting.registry.otherwise(|_| Some(crate::support::scripted::Reply::status(404)));
    for call in Call::each_with_repository(REGISTRY, &repository) {
        let failure = call.failure(&mut setting.client).await;
        assert_eq!(failure.status.code(), tonic::Code::NotFound, "{:?}", failure.status);
    }
    assert_eq!(setting.registry.requests().len(), 3);
}
