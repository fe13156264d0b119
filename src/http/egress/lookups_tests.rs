#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, sync::Condvar};

use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use super::*;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(100);

/// A system resolver in which names that begin with `hang` hang until they are released.
#[derive(Default)]
struct Names {
    state: Mutex<Hanging>,
    changed: Condvar,
}

#[derive(Default)]
struct Hanging {
    released: bool,
    /// How many threads hang for each name.
    threads: BTreeMap<String, usize>,
}

impl Names {
    fn resolver(self: &Arc<Self>) -> SystemResolver {
        let names = Arc::clone(self);
        Arc::new(move |host| {
            if host.starts_with("hang") {
                names.hang(host);
            }
            if host == "unknown.test" {
                return Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
            }
            Ok(vec!["192.0.2.1:0".parse().unwrap()])
        })
    }

    fn hang(&self, host: &str) {
        let mut state = self.state.lock().unwrap();
        *state.threads.entry(host.to_owned()).or_default() += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.released).unwrap());
    }

    /// Waits until this many threads hang. No test goes on while there are fewer.
    async fn hanging(self: &Arc<Self>, count: usize) -> BTreeMap<String, usize> {
        let names = Arc::clone(self);
        let wait = move || {
            let state = names.state.lock().unwrap();
            let enough =
                names.changed.wait_while(state, |state| state.threads.values().sum::<usize>() < count);
            enough.unwrap().threads.clone()
        };
        tokio::task::spawn_blocking(wait).await.unwrap()
    }

    fn release(&self) {
        self.state.lock().unwrap().released = true;
        self.changed.notify_all();
    }
}

/// A system resolver and the two bounds.
struct Setting {
    names: Arc<Names>,
    listed: Bound,
    unlisted: Bound,
}

impl Setting {
    fn new() -> Self {
        Self {
            names: Arc::default(),
            listed: Bound::new("that are listed", 8),
            unlisted: Bound::new("that are not listed", 8),
        }
    }

    fn of_listed(&self) -> Lookups {
        Lookups::with(self.names.resolver(), self.listed.clone(), CONNECT_TIMEOUT)
    }

    fn of_unlisted(&self) -> Lookups {
        Lookups::with(self.names.resolver(), self.unlisted.clone(), CONNECT_TIMEOUT)
    }

    fn free(&self) -> usize {
        self.unlisted.permits.available_permits()
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.names.release();
    }
}

fn start(lookups: &Lookups, host: &str) -> JoinHandle<Result<Arc<[SocketAddr]>, LookupError>> {
    let (lookups, host) = (lookups.clone(), host.to_owned());
    tokio::spawn(async move { lookups.look_up(&host).await })
}

fn is_busy(result: &Result<Arc<[SocketAddr]>, LookupError>, problem: &str) -> bool {
    matches!(result, Err(LookupError::Busy(text)) if text == problem)
}

#[tokio::test]
async fn names_of_unlisted_registries_that_hang_take_a_bounded_number_of_threads_and_none_of_a_listed_one() {
    let setting = Setting::new();
    let mut calls = JoinSet::new();
    for number in 0..100 {
        let lookups = setting.of_unlisted();
        calls.spawn(async move { lookups.look_up(&format!("hang{number}.test")).await });
    }
    setting.names.hanging(8).await;
    assert_eq!(setting.of_listed().look_up("registry.test").await.unwrap().len(), 1);

    // The other calls are refused. If one of them had a thread, it would hang.
    for _ in 8..100 {
        let refused = calls.join_next().await.unwrap().unwrap();
        assert!(is_busy(&refused, "8 name lookups of registries that are not listed are in progress"));
    }
    assert_eq!(setting.names.hanging(0).await.values().sum::<usize>(), 8);
    assert_eq!(setting.of_listed().look_up("registry.test").await.unwrap().len(), 1);
}

#[tokio::test]
async fn one_registry_takes_only_some_of_the_permits() {
    let setting = Setting::new();
    let greedy = setting.of_unlisted();
    let calls: Vec<_> = (0..10).map(|number| start(&greedy, &format!("hang{number}.test"))).collect();
    setting.names.hanging(MAX_PER_REGISTRY).await;
    assert_eq!(setting.of_unlisted().look_up("other.test").await.unwrap().len(), 1);
    let refused = greedy.look_up("other.test").await;
    assert!(is_busy(&refused, "4 name lookups of this registry are in progress"), "{refused:?}");
    assert_eq!(setting.names.hanging(0).await.len(), MAX_PER_REGISTRY);
    drop(calls);
}

#[tokio::test]
async fn a_lookup_that_hangs_keeps_its_permit_after_its_caller_has_gone() {
    let setting = Setting::new();
    let lookups = setting.of_unlisted();
    let call = start(&lookups, "hang.test");
    setting.names.hanging(1).await;
    assert_eq!(setting.free(), 7);
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(setting.free(), 7);

    // The next call for the name joins the lookup.
    let call = start(&lookups, "hang.test");
    while lookups.0.lock().get("hang.test").unwrap().receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    setting.names.release();
    assert_eq!(call.await.unwrap().unwrap().len(), 1);
    assert_eq!(setting.names.hanging(1).await, BTreeMap::from([("hang.test".to_owned(), 1)]));
    drop(setting.unlisted.permits.acquire_many(8).await.unwrap());
}

#[tokio::test]
async fn calls_for_the_same_name_share_one_lookup() {
    let setting = Setting::new();
    let lookups = setting.of_unlisted();
    let calls: Vec<_> = (0..50).map(|_| start(&lookups, "hang.test")).collect();
    setting.names.hanging(1).await;
    while lookups.0.lock().get("hang.test").unwrap().receiver_count() < 50 {
        tokio::task::yield_now().await;
    }
    setting.names.release();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().len(), 1);
    }
    assert_eq!(setting.names.hanging(1).await, BTreeMap::from([("hang.test".to_owned(), 1)]));
}

#[tokio::test]
async fn a_call_that_gives_up_its_wait_for_a_permit_leaves_nothing_behind() {
    let setting = Setting::new();
    let taken = Arc::clone(&setting.unlisted.permits).acquire_many_owned(8).await.unwrap();
    let lookups = setting.of_unlisted();
    let call = start(&lookups, "registry.test");
    while lookups.0.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    call.abort();
    while !lookups.0.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(taken);
    assert_eq!(lookups.look_up("registry.test").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_lookup_that_takes_too_long_ends_with_an_error_that_says_so() {
    let setting = Setting::new();
    let limit = Duration::from_millis(90);
    let lookups =
        Lookups::with(setting.names.resolver(), setting.unlisted.clone(), Duration::from_millis(100));
    let began = Instant::now();
    let error = lookups.look_up("hang.test").await.unwrap_err();
    assert!(began.elapsed() >= limit);
    assert_eq!(error.to_string(), "no response to the name lookup within 90ms");
    assert!(matches!(error, LookupError::Timeout { .. }));
}

#[tokio::test]
async fn a_failed_lookup_is_the_error_of_the_resolver() {
    let setting = Setting::new();
    let lookups = setting.of_unlisted();
    for _ in 0..2 {
        let error = lookups.look_up("unknown.test").await.unwrap_err();
        assert_eq!(error.to_string(), "no such name");
    }
    assert_eq!(lookups.look_up("registry.test").await.unwrap().len(), 1);
}
