//! Tests of the program as a whole: it uses no proxy from the environment, runs no credential helper, and does not start
//! with a broken credential file (reqwest's default; CVE-2021-41092).

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use crate::{
    canary::Canary,
    forbidden_listener::ForbiddenListener,
    support::{
        calls::Files,
        scripted::{Reply, ScriptedRegistry},
        token_server::{basic_of, content},
    },
};

/// Runs `rexd check-config --connect` with this configuration, full logging, and these additional variables.
async fn check(config: &Path, environment: &[(&str, String)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rexd"));
    command
        .args(["check-config", "--connect", "--config"])
        .arg(config)
        .env("REXD_LOG", "trace")
        .envs(environment.iter().cloned());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// A registry that accepts the canary by Basic, and a configuration that contains it.
async fn registry(files: &Files, canary: &Canary) -> (ScriptedRegistry, std::path::PathBuf) {
    let (registry, secret) = (ScriptedRegistry::start().await, canary.secret.clone());
    registry.otherwise(move |request| {
        Some(match basic_of(request) {
            Some((user, password)) if password == secret => content(&request.target, &user),
            _ => Reply::status(401).header("WWW-Authenticate", "Basic realm=\"r\""),
        })
    });
    let password = files.write("password", &canary.secret);
    let config = format!(
        "default_registry: registry.test\nregistries:\n  registry.test:\n    url: http://{}\n    credentials:\n      \
         username: alice\n      password_file: {}\n",
        registry.address(),
        password.display()
    );
    let config = files.write("rexd.yaml", config);
    (registry, config)
}

#[tokio::test]
async fn proxies_of_the_environment_are_not_used() {
    let (canary, files, forbidden) = (Canary::new(), Files::new(), ForbiddenListener::start().await);
    let (registry, config) = registry(&files, &canary).await;
    let proxy = format!("http://{}", forbidden.address);
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    let mut environment: Vec<_> = names.map(|name| (name, proxy.clone())).to_vec();
    environment.extend(["NO_PROXY", "no_proxy"].map(|name| (name, String::new())));
    let output = check(&config, &environment).await;
    assert!(output.status.success(), "{}", text(&output));
    assert!(registry.requests().iter().any(|request| canary.is_in_request(request)));
    forbidden.assert_no_connection();
}

#[tokio::test]
async fn the_program_logs_no_secret_at_any_level() {
    let (canary, files) = (Canary::new(), Files::new());
    let (_registry, config) = registry(&files, &canary).await;
    let output = check(&config, &[]).await;
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("TRACE"), "{}", text(&output));
    assert!(!canary.is_in(&[output.stdout, output.stderr].concat()));
}

#[tokio::test]
async fn no_credential_helper_is_run() {
    let (canary, files) = (Canary::new(), Files::new());
    let (_registry, config) = registry(&files, &canary).await;
    let marker = files.path("was-run");
    let helper = files
        .write("docker-credential-canary", format!("#!/bin/sh\ntouch {}\necho '{{}}'\n", marker.display()));
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let docker = r#"{"auths": {"other.test": {"auth": "YTpi"}}, "credsStore": "canary",
                     "credHelpers": {"registry.test": "canary"}}"#;
    files.write("config.json", docker);
    let directory = files.path("").display().to_string();
    let shared = format!(
        "docker_configs: [{}]\n{}",
        files.path("config.json").display(),
        fs::read_to_string(&config).unwrap()
    );
    fs::write(&config, shared).unwrap();
    let path = format!("{directory}:{}", std::env::var("PATH").unwrap());
    let environment = [("PATH", path), ("DOCKER_CONFIG", directory.clone()), ("HOME", directory)];
    let output = check(&config, &environment).await;
    assert!(output.status.success(), "{}", text(&output));
    assert!(!marker.exists());
}

#[tokio::test]
async fn a_broken_credential_file_stops_the_program_and_is_named() {
    let (canary, files) = (Canary::new(), Files::new());
    let (registry, config) = registry(&files, &canary).await;
    files.write("password", format!("{}\nsecond line", canary.secret));
    let output = check(&config, &[]).await;
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains(&files.path("password").display().to_string()), "{}", text(&output));
    assert!(!canary.is_in(text(&output).as_bytes()));
    assert_eq!(registry.requests().len(), 0, "no anonymous request is sent instead");
}
