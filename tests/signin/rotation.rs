//! Credentials that change while the service runs: the new ones are used within seconds, and no call fails meanwhile.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rexd::client::CredentialSource;

use crate::{
    Calls, Files, NAME, auth, signed_in,
    support::{
        scripted::{Reply, ScriptedRegistry},
        token_server::{self, Rules, TokenServer, basic_of},
    },
};

/// How the content of a file is replaced.
#[derive(Clone, Copy, Debug)]
enum Rotation {
    InPlace,
    Rename,
    /// Like the kubelet: the files are symlinks into `..data`, and `..data` is a symlink that is replaced.
    Kubernetes,
}

const ROTATIONS: [Rotation; 3] = [Rotation::InPlace, Rotation::Rename, Rotation::Kubernetes];

impl Rotation {
    /// Writes `content` to `file` in a directory, for the first time or again.
    fn put(self, directory: &Path, file: &str, content: &str) {
        let path = directory.join(file);
        match self {
            Self::InPlace => fs::write(path, content).unwrap(),
            Self::Rename => {
                let new = directory.join("new");
                fs::write(&new, content).unwrap();
                fs::rename(new, path).unwrap();
            }
            Self::Kubernetes => {
                static VERSION: AtomicUsize = AtomicUsize::new(0);
                let version = format!("..{}", VERSION.fetch_add(1, SeqCst));
                fs::create_dir(directory.join(&version)).unwrap();
                fs::write(directory.join(&version).join(file), content).unwrap();
                symlink(&version, directory.join("..data_tmp")).unwrap();
                fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
                if !path.is_symlink() {
                    symlink(PathBuf::from("..data").join(file), path).unwrap();
                }
            }
        }
    }
}

/// A registry that accepts one password, which a test can change.
async fn basic_registry(password: &Arc<Mutex<String>>) -> ScriptedRegistry {
    let (registry, password) = (ScriptedRegistry::start().await, Arc::clone(password));
    registry.otherwise(move |request| {
        Some(match basic_of(request) {
            Some((user, sent)) if sent == *password.lock().unwrap() => {
                token_server::content(&request.target, &user)
            }
            _ => Reply::status(401).header("WWW-Authenticate", "Basic realm=\"registry\""),
        })
    });
    registry
}

/// Makes calls without a pause while `meanwhile` runs. Every call must succeed. Returns the number of calls.
async fn under_load(calls: Calls, meanwhile: impl Future<Output = ()>) -> usize {
    let (calls, over) = (Arc::new(calls), Arc::new(AtomicBool::new(false)));
    let callers = (0..4).map(|_| {
        let (calls, over) = (Arc::clone(&calls), Arc::clone(&over));
        tokio::spawn(async move {
            let mut made = 0;
            while !over.load(SeqCst) {
                assert_eq!(calls.served("team/app").await.unwrap(), "alice");
                made += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            made
        })
    });
    let callers: Vec<_> = callers.collect();
    meanwhile.await;
    over.store(true, SeqCst);
    let mut made = 0;
    for caller in callers {
        made += caller.await.unwrap();
    }
    made
}

#[tokio::test]
async fn a_rotated_password_is_used_at_once_when_the_old_one_is_refused() {
    for rotation in ROTATIONS {
        let files = Files::new();
        let directory = files.path("");
        rotation.put(&directory, "password", "first\n");
        let password = Arc::new(Mutex::new("first".to_owned()));
        let registry = basic_registry(&password).await;
        let source = CredentialSource::Password {
            username: "alice".to_owned(),
            password_file: files.path("password"),
        };
        let calls = Calls::to(signed_in(registry.address(), source, None)).await;
        let made = under_load(calls, async {
            for next in ["second", "third"] {
                tokio::time::sleep(Duration::from_millis(150)).await;
                rotation.put(&directory, "password", &format!("{next}\n"));
                *password.lock().unwrap() = next.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        })
        .await;
        assert!(made > 20, "{made} calls, {rotation:?}");
    }
}

#[tokio::test]
async fn a_rotated_docker_config_is_used_within_five_seconds_though_the_old_one_still_works() {
    for rotation in ROTATIONS {
        let rules = Rules {
            accounts: ["first", "second"].map(|password| ("alice".to_owned(), password.to_owned())).to_vec(),
            lifetime: Duration::from_secs(300),
            ..Rules::default()
        };
        let (tokens, files) = (TokenServer::start(rules).await, Files::new());
        let config =
            |password: &str| serde_json::json!({"auths": { NAME: auth("alice", password) }}).to_string();
        let directory = files.path("");
        rotation.put(&directory, "config.json", &config("first"));
        let registry = tokens.registry().await;
        let source = CredentialSource::DockerConfig { file: files.path("config.json") };
        let calls = Calls::to(signed_in(registry.address(), source, Some(&tokens))).await;
        let used = || {
            let requests = tokens.requests();
            requests.last().and_then(basic_of).map(|(_, password)| password)
        };
        let took = Mutex::new(Duration::MAX);
        under_load(calls, async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(used().as_deref(), Some("first"));
            rotation.put(&directory, "config.json", &config("second"));
            let rotated = Instant::now();
            while used().as_deref() != Some("second") && rotated.elapsed() < Duration::from_secs(6) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            *took.lock().unwrap() = rotated.elapsed();
        })
        .await;
        let took = *took.lock().unwrap();
        assert!(took < Duration::from_secs(5), "{rotation:?} took {took:?}");
    }
}

#[tokio::test]
async fn a_password_that_the_token_service_refuses_is_read_again_at_once() {
    let account = |password: &str| vec![("alice".to_owned(), password.to_owned())];
    let rules = Rules { accounts: account("first"), ..Rules::default() };
    let (tokens, files) = (TokenServer::start(rules).await, Files::new());
    let registry = tokens.registry().await;
    let source = files.password("alice", "first");
    let calls = Calls::to(signed_in(registry.address(), source, Some(&tokens))).await;
    assert_eq!(calls.served("team/one").await.unwrap(), "alice");
    files.password("alice", "second");
    tokens.change(|rules| rules.accounts = account("second"));
    tokens.expire_all();
    assert_eq!(calls.served("team/one").await.unwrap(), "alice");
    assert_eq!(calls.served("team/two").await.unwrap(), "alice");
}

/// Harbor: the catalog accepts only Basic, and its challenge names the token service.
#[tokio::test]
async fn a_rotated_password_is_used_at_once_for_a_catalog_that_accepts_only_basic() {
    let account = |password: &str| vec![("admin".to_owned(), password.to_owned())];
    let rules = Rules { accounts: account("first"), ..Rules::default() };
    let (tokens, files) = (TokenServer::start(rules).await, Files::new());
    let (registry, server) = (ScriptedRegistry::start().await, tokens.clone());
    let good = Arc::new(Mutex::new("first".to_owned()));
    let accepted = Arc::clone(&good);
    registry.otherwise(move |request| {
        let password = accepted.lock().unwrap();
        Some(match basic_of(request).filter(|(_, sent)| *sent == *password) {
            Some((user, _)) => token_server::content(&request.target, &user),
            None => Reply::status(401).header("WWW-Authenticate", server.challenge()),
        })
    });
    let source = files.password("admin", "first");
    let calls = Calls::to(signed_in(registry.address(), source, Some(&tokens))).await;
    // The second page begins with Basic, because the first one found out that it works.
    for _ in 0..2 {
        assert_eq!(calls.catalog().await.unwrap(), ["team/app"]);
    }
    for next in ["second", "third"] {
        files.password("admin", next);
        tokens.change(|rules| rules.accounts = account(next));
        *good.lock().unwrap() = next.to_owned();
        assert_eq!(calls.catalog().await.unwrap(), ["team/app"], "{next}");
    }
}

#[tokio::test]
async fn a_rotated_token_file_is_used_at_once_when_the_old_token_is_refused() {
    let (registry, files) = (ScriptedRegistry::start().await, Files::new());
    let good = Arc::new(Mutex::new("Bearer first".to_owned()));
    let taken = Arc::clone(&good);
    registry.otherwise(move |request| {
        let good = request.header("authorization") == Some(taken.lock().unwrap().as_str());
        Some(if good { token_server::content(&request.target, "alice") } else { Reply::status(401) })
    });
    let token_file = files.write("token", "first");
    let source = CredentialSource::Token { token_file };
    let calls = Calls::to(signed_in(registry.address(), source, None)).await;
    assert_eq!(calls.served("team/app").await.unwrap(), "alice");
    files.write("token", "second");
    *good.lock().unwrap() = "Bearer second".to_owned();
    assert_eq!(calls.served("team/app").await.unwrap(), "alice");
}

#[tokio::test]
async fn a_rotated_file_that_is_broken_or_gone_keeps_the_last_good_content() {
    let (password, files) = (Arc::new(Mutex::new("first".to_owned())), Files::new());
    let registry = basic_registry(&password).await;
    let config = |password: &str| serde_json::json!({"auths": { NAME: auth("alice", password) }}).to_string();
    let file = files.write("config.json", config("first"));
    let source = CredentialSource::DockerConfig { file: file.clone() };
    let calls = Calls::to(signed_in(registry.address(), source, None)).await;
    assert_eq!(calls.served("team/app").await.unwrap(), "alice");
    for broken in ["{", "", r#"{"credsStore": "desktop"}"#] {
        fs::write(&file, broken).unwrap();
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(calls.served("team/app").await.unwrap(), "alice", "{broken:?}");
    }
    fs::remove_file(&file).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(calls.served("team/app").await.unwrap(), "alice", "gone");

    fs::write(&file, config("second")).unwrap();
    *password.lock().unwrap() = "second".to_owned();
    assert_eq!(calls.served("team/app").await.unwrap(), "alice", "good again");
}
