//! Identical reads at the same time, and a tag that moves under its readers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use rexd::{
    client::{Accept, CallContext, Client, Limits, Listing, Manifest, PageRequest, Share, Target},
    error::RexError,
    reads::{self, ManifestOptions, ManifestView, Reads},
};

use crate::{
    Chance, REGISTRY, REPOSITORY, defaults, manifest,
    registry::{MOMENT, Registry, number_of},
    service,
    support::{self, service::memory_of},
};

/// A manifest as it was sent.
#[derive(Debug, Clone)]
struct View(Bytes);

impl ManifestView for View {
    fn of(manifest: Manifest) -> Self {
        Self(manifest.content)
    }

    fn content(&self) -> Bytes {
        self.0.clone()
    }

    fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// The reads of a service without its listener. So all futures that are polled together have joined a read before the registry
/// responds, however slow the machine is.
struct Direct {
    reads: Reads<View>,
    target: Target,
}

impl Direct {
    fn new(registry: &Registry, settings: reads::Settings) -> Self {
        let limits = Limits { manifest_bytes: 4 << 20, list_page_bytes: 4 << 20, max_pages: 100 };
        let listed = vec![support::service::settings(REGISTRY, registry.address())];
        let client = Client::new(listed, Box::new(|_| None), limits).unwrap();
        let target = Target { registry: REGISTRY.parse().unwrap(), repository: REPOSITORY.parse().unwrap() };
        Self { reads: Reads::new(client, settings, None, None), target }
    }

    async fn manifest(&self, reference: &str) -> Result<u64, RexError> {
        let options = ManifestOptions { accept: Accept::new(&[]).unwrap(), platform: None, max_age: None };
        let reference = reference.parse().unwrap();
        let read = self.reads.manifest(&self.target, &reference, &options, &call()).await?;
        Ok(number_of(&read.value.manifest.view.content()))
    }

    async fn everybody(&self, reference: &str) {
        for number in join_all((0..200).map(|_| self.manifest(reference))).await {
            assert_eq!(number.unwrap(), 1);
        }
    }
}

fn call() -> CallContext {
    CallContext::new(None, Share::of(""), memory_of(64 << 20).account())
}

#[tokio::test]
async fn two_hundred_callers_cost_one_get_and_a_head() {
    let registry = Registry::start().await;
    let direct = Direct::new(&registry, defaults());
    let digest = registry.push("latest", 1);
    direct.everybody("latest").await;
    // All but the first came while its read ran; they share the next one, which confirms it.
    assert_eq!(registry.take_counts(), (1, 1), "cold");
    direct.everybody("latest").await;
    assert_eq!(registry.take_counts(), (2, 0), "again");
    // By digest the content is known, and access to it was not asked for with this reference.
    direct.everybody(&digest).await;
    assert_eq!(registry.take_counts(), (1, 0), "by digest");
    direct.everybody(&digest).await;
    assert_eq!(registry.take_counts(), (0, 0), "by digest again");
}

#[tokio::test]
async fn a_list_that_everybody_asks_for_is_read_twice() {
    let registry = Registry::start().await;
    let direct = Direct::new(&registry, defaults());
    registry.push("latest", 1);
    let listing = Listing::Tags(direct.target.clone());
    let request = || PageRequest { listing: listing.clone(), size: 10, token: None };
    let list = async || direct.reads.list(request(), None, &call()).await;
    for page in join_all((0..200).map(|_| list())).await {
        assert_eq!(page.unwrap().value.entries, ["latest"]);
    }
    assert_eq!(registry.state().lists, 2);
}

#[tokio::test]
async fn without_memory_identical_reads_are_still_shared() {
    let registry = Registry::start().await;
    let direct = Direct::new(&registry, reads::Settings::default());
    registry.push("latest", 1);
    for _ in 0..2 {
        direct.everybody("latest").await;
        assert_eq!(registry.take_counts(), (0, 2));
    }
}

#[tokio::test]
async fn a_failure_is_given_to_those_who_wait_and_is_not_remembered() {
    let registry = Registry::start().await;
    let direct = Direct::new(&registry, defaults());
    registry.push("latest", 1);
    registry.state().failing = Some(404);
    for outcome in join_all((0..50).map(|_| direct.manifest("latest"))).await {
        assert!(matches!(outcome, Err(RexError::NotFound { .. })), "{outcome:?}");
    }
    assert_eq!(registry.take_counts(), (0, 2));
    registry.state().failing = None;
    direct.everybody("latest").await;
}

/// Nobody gets a state that is older than the call: each reader knows which manifest the tag named when it asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_a_moving_tag_never_gets_what_it_named_before_the_call() {
    const READERS: usize = 100;
    const READS: usize = 15;
    let registry = Arc::new(Registry::start().await);
    let service = service(&registry, defaults()).await;
    let client = service.client().await;
    registry.push("moving", 0);
    let (current, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mover = tokio::spawn({
        let (registry, current, over) = (Arc::clone(&registry), Arc::clone(&current), Arc::clone(&over));
        async move {
            let mut chance = Chance(1);
            while !over.load(SeqCst) {
                let next = current.load(SeqCst) + 1;
                registry.push("moving", next);
                current.store(next, SeqCst);
                tokio::time::sleep(Duration::from_micros(chance.below(4000))).await;
            }
        }
    });
    let readers = (0..READERS).map(|reader| {
        let (client, current) = (client.clone(), Arc::clone(&current));
        tokio::spawn(async move {
            let mut chance = Chance(reader as u64);
            for _ in 0..READS {
                let before = current.load(SeqCst);
                let got = manifest(&client, "moving", None).await.unwrap();
                // The registry has the manifest a moment before `current` says so.
                let after = current.load(SeqCst) + 1;
                assert!((before..=after).contains(&got.number), "{before} <= {} <= {after}", got.number);
                tokio::time::sleep(Duration::from_micros(chance.below(3000))).await;
            }
        })
    });
    for reader in join_all(readers).await {
        reader.unwrap();
    }
    over.store(true, SeqCst);
    mover.await.unwrap();
    let (heads, gets) = registry.take_counts();
    let calls = READERS * READS;
    println!("{calls} calls, {} moves: {heads} HEADs, {gets} GETs", current.load(SeqCst));
    assert!(heads + gets < calls, "{heads} HEADs and {gets} GETs for {calls} calls: reads are shared");
}

#[tokio::test]
async fn callers_who_leave_take_nothing_with_them() {
    let registry = Registry::start().await;
    let service = service(&registry, defaults()).await;
    let client = service.client().await;
    registry.push("latest", 1);
    let leaving: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { manifest(&client, "latest", None).await })
        })
        .collect();
    let staying: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { manifest(&client, "latest", None).await })
        })
        .collect();
    tokio::time::sleep(MOMENT / 10).await;
    leaving.iter().for_each(|call| call.abort());
    for call in staying {
        assert_eq!(call.await.unwrap().unwrap().number, 1);
    }
}
