//! Tokens: sent in `authorization`, kept in files that are rotated.

use std::time::Duration;

use rexd::callers::{Callers, Identity};
use tokio::time::{Instant, sleep};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    REGISTRY, Setting, caller,
    support::{call::Call, calls::Files},
};

const BUILD: &str = "build-token-0123456789";
const DEPLOY: &str = "deploy-token-0123456789";

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Two callers with a token each; `build` may read `build/`, `deploy` may read `deploy/`.
async fn two_callers(files: &Files) -> Setting {
    let [build, deploy] = [("build", BUILD), ("deploy", DEPLOY)]
        .map(|(name, token)| Identity::TokenFile(files.write(name, token)));
    Setting::new([
        caller("build", &["registry.test:5000/build/"], build),
        caller("deploy", &["registry.test:5000/deploy/"], deploy),
    ])
    .await
}

#[tokio::test]
async fn each_rpc_requires_a_known_token() {
    let files = Files::new();
    let setting = two_callers(&files).await;
    for call in Call::each(REGISTRY) {
        let failure = setting.refuses_unknown(&call, "").await;
        assert!(failure.status.message().contains("authorization: Bearer"), "{:?}", failure.status);
        for wrong in ["Bearer", "Bearer ", BUILD, "Basic YWxpY2U6c2VjcmV0", "Bearer build-token-012345678"] {
            setting.refuses_unknown(&call, wrong).await;
        }
    }
}

#[tokio::test]
async fn an_unknown_caller_is_refused_before_its_request_is_checked() {
    let files = Files::new();
    let setting = two_callers(&files).await;
    setting.refuses_unknown(&Call::ping("not a registry"), "").await;
    setting.refuses_unknown(&Call::ping("unlisted.test"), "").await;
}

#[tokio::test]
async fn each_token_reads_only_what_its_caller_was_granted() {
    let files = Files::new();
    let setting = two_callers(&files).await;
    for (token, own, other) in [(BUILD, "build/app", "deploy/app"), (DEPLOY, "deploy/app", "build/app")] {
        for call in Call::each_with_repository(REGISTRY, own) {
            setting.serves(&call, &bearer(token)).await;
        }
        for call in Call::each_with_repository(REGISTRY, other) {
            setting.denies(&call, &bearer(token)).await;
        }
    }
}

#[tokio::test]
async fn health_checks_need_no_token() {
    let files = Files::new();
    let setting = two_callers(&files).await;
    let endpoint =
        tonic::transport::Endpoint::from_shared(format!("http://{}", setting.service.address)).unwrap();
    let mut health = HealthClient::new(endpoint.connect().await.unwrap());
    health.check(HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test]
async fn an_unknown_token_is_refused_even_with_an_anonymous_caller() {
    let files = Files::new();
    let file = files.write("build", BUILD);
    let setting = Setting::new([
        caller("build", &["*"], Identity::TokenFile(file)),
        caller("anybody", &["registry.test:5000/public/"], Identity::Anonymous),
    ])
    .await;
    let public = Call::tags(REGISTRY, "public/app");
    setting.serves(&public, "").await;
    setting.refuses_unknown(&public, &bearer("no-token-of-anybody-here")).await;
    let private = Call::tags(REGISTRY, "private/app");
    setting.denies(&private, "").await;
    setting.serves(&private, &bearer(BUILD)).await;
}

#[tokio::test]
async fn a_token_that_two_callers_come_to_share_identifies_neither() {
    let files = Files::new();
    let callers = [("one", "a/"), ("two", "b/")].map(|(name, prefix)| {
        let file = files.write(name, format!("{name}-token-0123456789"));
        caller(name, &[&format!("registry.test:5000/{prefix}")], Identity::TokenFile(file))
    });
    let setting = Setting::new(callers).await;
    setting.serves(&Call::tags(REGISTRY, "a/app"), &bearer("one-token-0123456789")).await;
    files.write("two", "one-token-0123456789");
    wait_until(&setting, "one-token-0123456789", false).await;
}

#[test]
fn callers_with_the_same_credentials_are_refused_at_the_start() {
    let files = Files::new();
    let file =
        |name: &str| Identity::TokenFile(files.write(name, format!("{name}-token-0123456789\n{BUILD}")));
    let names =
        |name: &str| Identity::CertificateNames([name.to_owned(), "shared.internal".to_owned()].into());
    for (one, two) in [
        (file("one"), file("two")),
        (names("a.internal"), names("b.internal")),
        (Identity::Anonymous, Identity::Anonymous),
    ] {
        let problems = Callers::known([caller("one", &["*"], one), caller("two", &["*"], two)]).unwrap_err();
        assert_eq!(problems, ["callers.two: has the same credentials as one"]);
    }
}

#[test]
fn callers_print_no_token() {
    let files = Files::new();
    let file = Identity::TokenFile(files.write("build", BUILD));
    let printed = format!("{:?}", Callers::known([caller("build", &["*"], file)]).unwrap());
    let as_numbers = format!("{:?}", BUILD.as_bytes());
    assert!(!printed.contains(BUILD) && !printed.contains(as_numbers.trim_matches(['[', ']'])), "{printed}");
}

/// Calls until the token is known, or unknown. The service reads a changed file within about a second.
async fn wait_until(setting: &Setting, token: &str, known: bool) {
    let (begun, mut client) = (Instant::now(), setting.client().await);
    loop {
        let outcome = Call::ping(REGISTRY).outcome_as(&mut client, &bearer(token)).await;
        if outcome.is_ok() == known {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{token}: {outcome:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn tokens_rotate_without_a_restart() {
    let files = Files::new();
    let file = files.write("build", BUILD);
    let setting = Setting::new([caller("build", &["*"], Identity::TokenFile(file))]).await;
    const NEXT: &str = "next-token-0123456789";
    wait_until(&setting, BUILD, true).await;
    files.write("build", format!("{BUILD}\n{NEXT}\n"));
    wait_until(&setting, NEXT, true).await;
    wait_until(&setting, BUILD, true).await;
    files.write("build", NEXT);
    wait_until(&setting, BUILD, false).await;
    wait_until(&setting, NEXT, true).await;
}

#[tokio::test]
async fn a_token_is_refused_after_it_is_commented_out() {
    for comment in ["# ", "#"] {
        let files = Files::new();
        let file = files.write("build", BUILD);
        let setting = Setting::new([caller("build", &["*"], Identity::TokenFile(file))]).await;
        wait_until(&setting, BUILD, true).await;
        files.write("build", format!("{comment}{BUILD}\nand a line that is no token\n"));
        wait_until(&setting, BUILD, false).await;
        setting.refuses_unknown(&Call::ping(REGISTRY), &bearer(&format!("{comment}{BUILD}"))).await;
    }
}

#[tokio::test]
async fn a_token_is_refused_after_its_file_is_emptied_or_removed() {
    for remove in [false, true] {
        let files = Files::new();
        let file = files.write("build", BUILD);
        let setting = Setting::new([caller("build", &["*"], Identity::TokenFile(file.clone()))]).await;
        wait_until(&setting, BUILD, true).await;
        if remove {
            std::fs::remove_file(file).unwrap();
        } else {
            files.write("build", "");
        }
        wait_until(&setting, BUILD, false).await;
    }
}

#[tokio::test]
async fn a_service_does_not_start_with_a_file_without_a_token() {
    let files = Files::new();
    for (name, content, problem) in [
        ("empty", "\n", "holds no token"),
        ("short", "secret", "line 1 is shorter than 16 characters"),
        ("words", "not a token but a sentence", "line 1 holds a space"),
    ] {
        let file = files.write(name, content);
        let problems =
            Callers::known([caller(name, &["*"], Identity::TokenFile(file))]).unwrap_err().concat();
        assert!(problems.contains(&format!("callers.{name}: ")) && problems.contains(problem), "{problems}");
        assert!(content.trim().is_empty() || !problems.contains(content), "{problems}");
    }
    let missing = Identity::TokenFile(files.path("missing"));
    assert!(Callers::known([caller("missing", &["*"], missing)]).is_err());
}
