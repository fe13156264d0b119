//! Leases: one holder at a time, whatever happens to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rexd::reads::fleet::{Engine, LEASE_EXPIRY, Lease, LeaseEnd, LeaseGuard, LeaseWaiter};

use crate::server::{Server, until_connected};

async fn held(engine: &Engine, name: &str) -> LeaseGuard {
    match engine.lease(name).await {
        Lease::Held(guard) => guard,
        other => panic!("{other:?}"),
    }
}

async fn busy(engine: &Engine, name: &str) -> LeaseWaiter {
    match engine.lease(name).await {
        Lease::Busy(waiter) => waiter,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_lease_has_one_holder_and_its_end_wakes_the_waiters() {
    let server = Server::start();
    let (one, other) = (server.engine(), server.engine());
    let guard = held(&one, "a").await;
    let unrelated = held(&other, "b").await;
    let waiter = tokio::spawn(busy(&other, "a").await.wait());
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(!waiter.is_finished());
    one.put("result", b"x", LEASE_EXPIRY).await;
    drop(guard);
    assert_eq!(waiter.await.unwrap(), LeaseEnd::Ended);
    assert!(other.get("result", 10).await.is_some());
    drop(held(&other, "a").await);
    drop(unrelated);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_hundred_contenders_on_three_replicas_hold_it_one_after_the_other() {
    let server = Server::start();
    let engines = [server.engine(), server.engine(), server.engine()];
    for engine in &engines {
        until_connected(engine).await;
    }
    let (holders, turns) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let contenders = (0..100).map(|number| {
        let engine = engines[number % 3].clone();
        let (holders, turns) = (Arc::clone(&holders), Arc::clone(&turns));
        tokio::spawn(async move {
            loop {
                match engine.lease("contended").await {
                    Lease::Held(guard) => {
                        assert_eq!(holders.fetch_add(1, SeqCst), 0);
                        tokio::task::yield_now().await;
                        assert_eq!(holders.fetch_sub(1, SeqCst), 1);
                        turns.fetch_add(1, SeqCst);
                        drop(guard);
                        return;
                    }
                    Lease::Busy(waiter) => {
                        waiter.wait().await;
                    }
                    // A slow machine may close a session; nobody holds anything then.
                    Lease::Alone => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        })
    });
    for contender in contenders.collect::<Vec<_>>() {
        contender.await.unwrap();
    }
    assert_eq!(turns.load(SeqCst), 100);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_lease_is_renewed_while_it_is_held() {
    let server = Server::start();
    let (one, other) = (server.engine(), server.engine());
    let guard = held(&one, "long").await;
    tokio::time::sleep(LEASE_EXPIRY + Duration::from_secs(1)).await;
    drop(busy(&other, "long").await);
    drop(guard);
}

/// A runtime that ends is a process that ends: its tasks and connections are gone, and nothing was released.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_lease_of_a_holder_that_crashes_ends_with_its_expiry() {
    let server = Server::start();
    let crashed = server.engine();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let guard = runtime.block_on(async {
            until_connected(&crashed).await;
            held(&crashed, "a").await
        });
        runtime.shutdown_background();
        sender.send(guard).unwrap();
    });
    let guard = receiver.recv_timeout(crate::server::PATIENCE).unwrap();
    let began = Instant::now();
    let other = server.engine();
    assert_eq!(busy(&other, "a").await.wait().await, LeaseEnd::Ended);
    assert!(began.elapsed() > Duration::from_secs(1), "it was released: {:?}", began.elapsed());
    drop(held(&other, "a").await);
    drop(guard);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_caller_that_leaves_while_it_asks_keeps_no_lease() {
    let server = Server::start();
    let engine = server.engine();
    until_connected(&engine).await;
    let began = Instant::now();
    for _ in 0..50 {
        let mut asking = Box::pin(engine.lease("left"));
        let _ = futures_util::poll!(&mut asking);
        drop(asking);
    }
    // All were released long before they expired.
    loop {
        match engine.lease("left").await {
            Lease::Held(_) => break,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        assert!(began.elapsed() < LEASE_EXPIRY, "a lease was left behind");
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_lease_that_expired_is_not_taken_from_its_next_holder() {
    let server = Server::start();
    let (one, other) = (server.engine(), server.engine());
    let first = held(&one, "a").await;
    // As if the first holder had been cut off for longer than the expiry.
    let keys = server.run::<Vec<String>>(&["KEYS", "*lease*"]);
    server.run::<()>(&["DEL", &keys[0]]);
    let second = held(&other, "a").await;
    drop(first);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let waiter = tokio::spawn(busy(&one, "a").await.wait());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!waiter.is_finished());
    drop(second);
    assert_eq!(waiter.await.unwrap(), LeaseEnd::Ended);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_flushed_engine_gets_the_lease_again_from_its_holder() {
    let server = Server::start();
    let engine = server.engine();
    let guard = held(&engine, "a").await;
    server.run::<()>(&["FLUSHALL"]);
    crate::server::until(
        "the lease is there again",
        || (),
        async |()| !server.run::<Vec<String>>(&["KEYS", "*lease*"]).is_empty(),
    )
    .await;
    drop(guard);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_waiters_for_a_lease_go_on_alone_when_the_engine_freezes() {
    let server = Server::start();
    let (one, other) = (server.engine(), server.engine());
    let guard = held(&one, "a").await;
    let waiters =
        [busy(&other, "a").await, busy(&other, "a").await].map(|waiter| tokio::spawn(waiter.wait()));
    server.freeze();
    for waiter in waiters {
        assert_eq!(
            tokio::time::timeout(crate::server::PATIENCE, waiter).await.unwrap().unwrap(),
            LeaseEnd::Alone
        );
    }
    assert!(matches!(other.lease("b").await, Lease::Alone));
    drop(guard);
    server.thaw();
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_flush_wakes_the_waiters_for_a_lease() {
    let server = Server::start();
    let (one, other) = (server.engine(), server.engine());
    let guard = held(&one, "a").await;
    let waiter = tokio::spawn(busy(&other, "a").await.wait());
    server.run::<()>(&["FLUSHALL"]);
    assert_eq!(waiter.await.unwrap(), LeaseEnd::Ended);
    drop(guard);
}
