//! `rexd blob` resumes an interrupted download: the real binary, the real service, and a registry behind a fault proxy.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use rexd::demo::APP;
use tempfile::TempDir;

use crate::{
    large_blob,
    support::{
        demo_registry,
        fault::{Fault, FaultProxy, When},
        scripted::{Reply, ScriptedRegistry},
        service::Service,
    },
};

const REGISTRY: &str = "registry.test:5000";

struct Setup {
    service: Service,
    directory: TempDir,
    /// `registry/repository@digest`.
    blob: String,
}

impl Setup {
    async fn new(address: std::net::SocketAddr, blob: String) -> Self {
        Self {
            service: Service::in_front_of(REGISTRY, address).await,
            directory: TempDir::new().unwrap(),
            blob,
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("layer")
    }

    fn part(&self) -> PathBuf {
        self.directory.path().join("layer.part")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rexd"));
        command.args(["blob", &self.blob, "--server", &self.service.address.to_string(), "--output"]);
        command.arg(self.file()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn run(&self) -> Output {
        let mut command = self.command();
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Runs the command, which must save `content`, and returns what it wrote to standard error.
    async fn saves(&self, content: &[u8]) -> String {
        let output = self.run().await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        assert!(fs::read(self.file()).unwrap() == content, "{stderr}");
        assert!(!self.part().exists());
        stderr
    }
}

async fn large() -> (Setup, FaultProxy, rexd::demo::DemoRegistry, bytes::Bytes) {
    let registry = demo_registry().await;
    let proxy = FaultProxy::start(registry.address());
    let (target, content) = large_blob();
    let digest = target.rsplit_once('/').unwrap().1.to_owned();
    let setup = Setup::new(proxy.address(), format!("{REGISTRY}/{APP}@{digest}")).await;
    (setup, proxy, registry, content)
}

fn ranges(proxy: &FaultProxy) -> Vec<Option<String>> {
    let requests = proxy.connection_log().requests();
    requests.iter().map(|request| request.header("Range").map(str::to_owned)).collect()
}

async fn length_of(path: &Path) -> u64 {
    for _ in 0..600 {
        match fs::metadata(path) {
            Ok(metadata) if metadata.len() > 0 => return metadata.len(),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("{} stays empty", path.display());
}

#[tokio::test]
async fn an_interrupted_download_is_resumed_by_the_next_run() {
    let (setup, proxy, _registry, content) = large().await;
    let pause = Duration::from_secs(3600);
    proxy.inject(When::always("/blobs/"), Fault::StallAfter { bytes: 1_000_000, pause });
    let child = setup.command().spawn().unwrap();
    length_of(&setup.part()).await;
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let interrupted = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert!(!interrupted.status.success() && !setup.file().exists());
    proxy.heal();
    let length = length_of(&setup.part()).await;
    let stderr = setup.saves(&content).await;
    assert!(stderr.contains(&format!("resuming at byte {length}")), "{stderr}");
    assert_eq!(ranges(&proxy).last().unwrap().as_deref(), Some(&*format!("bytes={length}-")));
}

#[tokio::test]
async fn a_part_that_does_not_match_the_digest_is_discarded_once() {
    let (setup, proxy, _registry, content) = large().await;
    fs::write(setup.part(), [0; 1000]).unwrap();
    let stderr = setup.saves(&content).await;
    assert!(stderr.contains("does not match the digest; downloading it again"), "{stderr}");
    assert_eq!(ranges(&proxy), [Some("bytes=1000-".to_owned()), None]);
}

#[tokio::test]
async fn a_part_that_is_larger_than_the_blob_is_discarded() {
    let (setup, _proxy, _registry, content) = large().await;
    fs::write(setup.part(), vec![0; content.len() + 1]).unwrap();
    let stderr = setup.saves(&content).await;
    assert!(stderr.contains("larger than the blob; downloading it again"), "{stderr}");
}

#[tokio::test]
async fn a_complete_part_is_verified_and_renamed() {
    let (setup, _proxy, _registry, content) = large().await;
    fs::write(setup.part(), &content).unwrap();
    setup.saves(&content).await;
}

#[tokio::test]
async fn a_sha512_blob_is_resumed_and_verified() {
    use sha2::Digest as _;
    let content: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
    let hex: String = sha2::Sha512::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    let registry = ScriptedRegistry::start().await;
    let whole = content.clone();
    registry.otherwise(move |request| {
        let Some(range) = request.header("Range") else {
            return Some(Reply::status(200).body(whole.clone()));
        };
        let first: usize = range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?;
        let (last, size) = (whole.len() - 1, whole.len());
        let reply = Reply::status(206).header("Content-Range", format!("bytes {first}-{last}/{size}"));
        Some(reply.body(&whole[first..]))
    });
    let setup = Setup::new(registry.address(), format!("{REGISTRY}/org/app@sha512:{hex}")).await;
    fs::write(setup.part(), &content[..40_000]).unwrap();
    let stderr = setup.saves(&content).await;
    assert!(stderr.contains("resuming at byte 40000"), "{stderr}");
    let last = registry.requests().pop().unwrap();
    assert_eq!(last.header("Range"), Some("bytes=40000-"));

    fs::write(setup.part(), vec![1; 40_000]).unwrap();
    setup.saves(&content).await;
}
