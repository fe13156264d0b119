//! Signing in: ACL users, passwords that change, TLS.

use std::{path::Path, process::Command, time::Duration};

use rexd::reads::fleet::{BudgetLimits, Engine, Lease, Settings};

use crate::{
    log::Log,
    server::{Server, free_port, settings, until, until_connected},
};

const MINUTE: Duration = Duration::from_secs(60);

/// A server whose user `rexd` has the rights that the documentation of `reads::fleet` lists, and no more.
fn server_with_user(password: &str) -> Server {
    let server = Server::start();
    set_password(&server, password);
    server
}

fn set_password(server: &Server, password: &str) {
    let commands = "+auth +cluster|slots +del +eval +evalsha +get +hdel +hgetall +hset +pexpire +ping +pttl +select +set \
                    +strlen +time +zadd +zrange +zrangebyscore +zremrangebyrank +zremrangebyscore +zscore";
    let password = format!(">{password}");
    let mut command = vec!["ACL", "SETUSER", "rexd", "reset", "on", &password, "~rexd:1:*"];
    command.extend(commands.split_whitespace());
    server.run::<()>(&command);
}

fn with_password(server: &Server, file: &Path) -> Settings {
    Settings {
        username: Some("rexd".to_owned()),
        password_file: Some(file.to_owned()),
        ..settings(&server.url())
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_user_with_the_listed_rights_can_do_everything() {
    let server = server_with_user("canary-1");
    let file = server.directory().join("password");
    std::fs::write(&file, "canary-1\n").unwrap();
    let engine = Engine::new(&with_password(&server, &file)).unwrap();
    engine.check().await.unwrap();
    until_connected(&engine).await;
    engine.put("a", b"x", MINUTE).await;
    assert!(engine.get("a", 10).await.is_some());
    engine.remove("a").await;
    let Lease::Held(guard) = engine.lease("a").await else { panic!("not held") };
    let Lease::Busy(waiter) = engine.lease("a").await else { panic!("not busy") };
    drop(guard);
    waiter.wait().await;
    engine.pauses().announce("docker.io", MINUTE);
    until("the pause is known", || (), async |()| engine.pauses().paused_until("docker.io").is_some()).await;
    let limits = BudgetLimits { requests_per_second: Some(100), max_concurrent_requests: Some(3) };
    let budget = engine.budget("docker.io", limits);
    drop(budget.admit(rexd::client::BudgetedRequest::Concurrent).await);
    assert_eq!(engine.counts().refused, 0);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_wrong_password_is_an_engine_that_is_away_until_the_file_has_the_right_one() {
    let (log, _guard) = Log::start();
    let server = server_with_user("canary-right");
    let file = server.directory().join("password");
    std::fs::write(&file, "canary-wrong").unwrap();
    let engine = Engine::new(&with_password(&server, &file)).unwrap();
    let problem = engine.check().await.unwrap_err();
    assert!(problem.contains("WRONGPASS") && !problem.contains("canary"), "{problem}");
    for _ in 0..50 {
        assert_eq!(engine.get("a", 10).await, None);
    }
    std::fs::write(&file, "canary-right").unwrap();
    until_connected(&engine).await;

    // The password is changed, and connections that were signed in with the old one are closed.
    set_password(&server, "canary-new");
    std::fs::write(&file, "canary-new").unwrap();
    server.run::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    until_connected(&engine).await;
    assert_eq!(log.count("canary"), 0, "{}", log.text());
    assert_eq!(format!("{engine:?}").matches("canary").count(), 0);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_user_that_may_not_write_is_named_by_the_check() {
    let server = server_with_user("canary");
    let file = server.directory().join("password");
    std::fs::write(&file, "canary").unwrap();
    for (change, expected) in [("-set", "NOPERM"), ("resetkeys", "NOPERM")] {
        set_password(&server, "canary");
        server.run::<()>(&["ACL", "SETUSER", "rexd", change]);
        let engine = Engine::new(&with_password(&server, &file)).unwrap();
        let problem = engine.check().await.unwrap_err();
        assert!(problem.contains(expected) && !problem.contains("canary"), "{change}: {problem}");
    }
    server.run::<()>(&["ACL", "SETUSER", "rexd", "allkeys", "+set", "-eval"]);
    let problem = Engine::new(&with_password(&server, &file)).unwrap().check().await.unwrap_err();
    assert!(problem.contains("script"), "{problem}");
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_named_by_their_key() {
    let base = settings("redis://127.0.0.1:1");
    let file = std::path::PathBuf::from("/nowhere/canary");
    for (settings, expected) in [
        (Settings { url: "http://engine".to_owned(), ..base.clone() }, "cache.shared.url: "),
        (Settings { url: "redis://u:canary-secret@engine".to_owned(), ..base.clone() }, "cache.shared.url: "),
        (Settings { prefix: "a b".to_owned(), ..base.clone() }, "cache.shared.prefix: "),
        (
            Settings { password_file: Some(file.clone()), ..base.clone() },
            "cache.shared.password_file: /nowhere/canary: ",
        ),
        (Settings { username: Some("u".to_owned()), ..base.clone() }, "cache.shared.username: "),
        (Settings { ca_file: Some(file.clone()), ..base.clone() }, "cache.shared.ca_file: "),
        (
            Settings { url: "rediss://engine".to_owned(), ca_file: Some(file), ..base.clone() },
            "cache.shared.ca_file: /nowhere/canary: ",
        ),
    ] {
        let problem = Engine::new(&settings).unwrap_err();
        assert!(problem.starts_with(expected) && !problem.contains("secret"), "{problem}");
    }
}

/// Makes an authority, and a certificate of it for 127.0.0.1.
fn make_certificates(directory: &Path, name: &str) {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(directory)
            .output()
            .expect("openssl cannot be started: install the package openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let (ca, ca_key) = (format!("{name}-ca.pem"), format!("{name}-ca.key"));
    let (request, key) = (format!("{name}.csr"), format!("{name}.key"));
    std::fs::write(directory.join("san"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let ca_arguments = ["req", "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", &ca_key, "-out", &ca];
    openssl(&[&ca_arguments[..], &new_key].concat());
    let arguments = ["req", "-new", "-subj", "/CN=engine", "-keyout", &key, "-out", &request];
    openssl(&[&arguments[..], &new_key].concat());
    let signed = format!("{name}.pem");
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-CAcreateserial",
        "-extfile",
        "san",
        "-out",
        &signed,
    ]);
}

#[tokio::test]
#[ignore = "needs redis-server and openssl"]
async fn an_engine_over_tls_is_used_if_its_authority_is_trusted() {
    let tls_port = free_port();
    let server = Server::start_with(|directory| {
        make_certificates(directory, "engine");
        make_certificates(directory, "other");
        let file = |name: &str| directory.join(name).to_str().unwrap().to_owned();
        let port = tls_port.to_string();
        [
            ["--tls-port", &port],
            ["--tls-cert-file", &file("engine.pem")],
            ["--tls-key-file", &file("engine.key")],
            ["--tls-ca-cert-file", &file("engine-ca.pem")],
            ["--tls-auth-clients", "no"],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
    });
    let url = format!("rediss://127.0.0.1:{tls_port}");
    let with_ca = |name: &str| Settings { ca_file: Some(server.directory().join(name)), ..settings(&url) };
    let engine = Engine::new(&with_ca("engine-ca.pem")).unwrap();
    engine.check().await.unwrap();
    until_connected(&engine).await;
    engine.put("a", b"x", MINUTE).await;
    assert!(engine.get("a", 10).await.is_some());

    let problem = Engine::new(&with_ca("other-ca.pem")).unwrap().check().await.unwrap_err();
    assert!(problem.contains("TLS") && problem.contains("certificate"), "{problem}");
    // Without TLS on one side.
    let plain = settings(&format!("redis://127.0.0.1:{tls_port}"));
    Engine::new(&plain).unwrap().check().await.unwrap_err();
    let settings = Settings { url: server.url().replace("redis:", "rediss:"), ..with_ca("engine-ca.pem") };
    Engine::new(&settings).unwrap().check().await.unwrap_err();
    // The key's file is no list of authorities.
    let problem = Engine::new(&with_ca("engine.key")).unwrap_err();
    assert!(problem.starts_with("cache.shared.ca_file: "), "{problem}");
}
