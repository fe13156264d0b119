//! Registries that the configuration does not list: callers name them, so their number is bounded.

use std::{
    fs,
    process::Command,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use rexd::{
    client::{
        Blob, BlobRange, CallContext, Client, HttpSettings, Limits, Listing, PageRequest, Settings, Share,
        Target,
    },
    demo::{APP, DemoRegistry},
    error::RexError,
    oci::Registry,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{
    PATIENCE,
    gated::GatedRegistry,
    support::{
        self,
        service::{memory_of, settings},
    },
};

const LIMIT: usize = 64;
const BLOBS: &str = "blobs.test";

/// A client that lists no registry. `blobs.test` is the demo registry, every other name is the gated one.
struct Setting {
    client: Arc<Client>,
    gated: GatedRegistry,
    _demo: DemoRegistry,
    /// The registries that were set up, in order.
    set_up: Arc<Mutex<Vec<String>>>,
}

impl Setting {
    async fn new() -> Self {
        let (gated, demo) = (GatedRegistry::start().await, support::demo_registry().await);
        let set_up = Arc::new(Mutex::new(Vec::new()));
        let (lists, blobs, log) = (gated.address, demo.address(), Arc::clone(&set_up));
        let unlisted = move |registry: &Registry| {
            log.lock().unwrap().push(registry.to_string());
            let address = if registry.as_str() == BLOBS { blobs } else { lists };
            // Listed, because only then may the address be private.
            let http = HttpSettings { listed: true, ..settings(BLOBS, address).http };
            Some(Settings { registry: registry.clone(), http, ..settings(BLOBS, address) })
        };
        let limits = Limits { manifest_bytes: 4 << 20, list_page_bytes: 4 << 20, max_pages: 100 };
        let client = Arc::new(Client::new([], Box::new(unlisted), limits).unwrap());
        Self { client, gated, _demo: demo, set_up }
    }

    /// Lists tags of a registry. The call ends when the test completes its response.
    fn list(&self, registry: &str) -> Call {
        list(&self.client, registry)
    }

    /// Opens a blob of `blobs.test`, which is in use until the blob is dropped.
    async fn open_blob(&self) -> Blob {
        let target = Target { registry: BLOBS.parse().unwrap(), repository: APP.parse().unwrap() };
        let sample = support::sample();
        let blobs = sample.repository(APP).unwrap().blobs();
        let (digest, _) = blobs.max_by_key(|(_, blob)| blob.len()).unwrap();
        let call = CallContext::new(None, Share::of(""), memory_of(64 << 20).account());
        self.client
            .blob(&target, &digest.to_string().parse().unwrap(), BlobRange::default(), Arc::new(call))
            .await
            .unwrap()
    }

    /// Lists tags of registries one after the other, so that all are idle afterwards.
    async fn list_one_by_one(&self, registries: impl IntoIterator<Item = String>) {
        for registry in registries {
            self.gated.complete(1);
            self.list(&registry).await.unwrap().unwrap();
        }
    }

    fn set_up(&self) -> Vec<String> {
        std::mem::take(&mut *self.set_up.lock().unwrap())
    }
}

type Call = JoinHandle<Result<(), RexError>>;

/// Starts to list tags of a registry.
fn list(client: &Arc<Client>, registry: &str) -> Call {
    let target = Target { registry: registry.parse().unwrap(), repository: "org/app".parse().unwrap() };
    let client = Arc::clone(client);
    tokio::spawn(async move {
        let request = PageRequest { listing: Listing::Tags(target), size: 10, token: None };
        client
            .list(&request, None, &CallContext::new(None, Share::of(""), memory_of(64 << 20).account()))
            .await
            .map(drop)
    })
}

fn name(number: usize) -> String {
    format!("r{number}.test")
}

#[tokio::test]
async fn a_registry_beyond_the_limit_of_those_in_use_is_refused_until_a_call_ends() {
    let setting = Setting::new().await;
    let mut calls: Vec<_> = (1..LIMIT).map(|number| setting.list(&name(number))).collect();
    setting.gated.requests(LIMIT - 1).await;
    let blob = setting.open_blob().await;

    let refused = setting.list("one-more.test").await.unwrap().unwrap_err();
    let RexError::Overloaded { problem, retry_after } = refused else { panic!("{refused:?}") };
    assert!(problem.contains("64 registries"), "{problem}");
    assert!(!retry_after.is_zero());

    // A registry that is in use already takes further calls.
    calls.push(setting.list(&name(1)));
    setting.gated.requests(LIMIT).await;

    // The stream was the only use of its registry.
    drop(blob);
    calls.push(setting.list("one-more.test"));
    setting.gated.requests(LIMIT + 1).await;
    setting.gated.complete(calls.len());
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(setting.set_up().len(), LIMIT + 1);
}

#[tokio::test]
async fn a_new_registry_replaces_the_idle_one_that_was_not_used_for_the_longest_time() {
    let setting = Setting::new().await;
    let blob = setting.open_blob().await;
    setting.list_one_by_one((1..LIMIT).map(name)).await;
    setting.list_one_by_one([name(1)]).await;
    setting.set_up();

    // The registry of the blob is in use, and the first one was used again, so the second one is replaced.
    setting.list_one_by_one([name(LIMIT)]).await;
    drop((blob, setting.open_blob().await));
    setting.list_one_by_one([name(1), name(3)]).await;
    assert_eq!(setting.set_up(), [name(LIMIT)]);
    setting.list_one_by_one([name(2)]).await;
    assert_eq!(setting.set_up(), [name(2)]);
}

#[tokio::test]
async fn setting_up_an_unlisted_registry_blocks_no_other_call() {
    let (gated, folder) = (GatedRegistry::start().await, TempDir::new().unwrap());
    // Reading a named pipe blocks until somebody writes to it.
    let pipe = folder.path().join("ca.pem");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (template, ca_file) = (settings("listed.test", gated.address), pipe.clone());
    let listed = template.clone();
    let unlisted = move |registry: &Registry| {
        let http = HttpSettings { ca_file: Some(ca_file.clone()), ..template.http.clone() };
        Some(Settings { registry: registry.clone(), http, ..template.clone() })
    };
    let limits = Limits { manifest_bytes: 4 << 20, list_page_bytes: 4 << 20, max_pages: 100 };
    let client = Arc::new(Client::new([listed], Box::new(unlisted), limits).unwrap());
    let (release, released) = mpsc::channel::<()>();
    let writer = thread::spawn(move || {
        let in_time = released.recv_timeout(PATIENCE).is_ok();
        fs::write(&pipe, "no certificate").unwrap();
        in_time
    });

    let setting_up = list(&client, "unlisted.test");
    tokio::task::yield_now().await;
    gated.complete(1);
    list(&client, "listed.test").await.unwrap().unwrap();
    let _ = release.send(());
    let refused = setting_up.await.unwrap().unwrap_err();
    assert!(matches!(refused, RexError::RegistryNotAllowed { .. }), "{refused:?}");
    assert!(writer.join().unwrap(), "the listed registry waited until the other one was set up");
}
