//! An engine that is away, frozen, flushed, full, or not the master.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rexd::reads::fleet::{Engine, Lease, OPERATION_LIMIT};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    log::Log,
    server::{PATIENCE, Server, free_port, settings, until, until_connected},
};

const MINUTE: Duration = Duration::from_secs(60);
const AWAY: &str = "the shared engine is away";
const BACK: &str = "the shared engine is back";

/// Reads at the same time, of which each must find nothing.
async fn read_at_once(engine: &Engine, count: usize) {
    let reads = (0..count).map(|_| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            assert_eq!(engine.get("a", 100).await, None);
            began.elapsed()
        })
    });
    for read in reads.collect::<Vec<_>>() {
        // The limit is 50 ms; the rest is what a slow machine adds.
        assert!(read.await.unwrap() < Duration::from_secs(2));
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn calls_wait_once_when_the_engine_freezes_and_later_calls_do_not_wait() {
    let (log, _guard) = Log::start();
    let server = Server::start();
    let engine = server.engine();
    until_connected(&engine).await;
    engine.put("b", b"x", MINUTE).await;
    let before = engine.counts();

    server.freeze();
    read_at_once(&engine, 200).await;
    let frozen = engine.counts();
    // Every read was under way; some ended at their own limit, the others with the session.
    assert_eq!(frozen.waited + frozen.failed - before.waited - before.failed, 200, "{frozen:?}");
    assert!(frozen.waited > before.waited);

    for _ in 0..5 {
        read_at_once(&engine, 200).await;
        engine.put("a", b"x", MINUTE).await;
        assert!(matches!(engine.lease("a").await, Lease::Alone));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let later = engine.counts();
    assert_eq!((later.waited, later.failed), (frozen.waited, frozen.failed));
    assert_eq!(later.skipped - frozen.skipped, 5 * 202);

    server.thaw();
    until_connected(&engine).await;
    assert!(engine.get("b", 100).await.is_some());
    assert_eq!((log.count(AWAY), log.count(BACK)), (1, 1), "{}", log.text());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_engine_that_is_killed_and_started_again_is_used_again() {
    let (log, _guard) = Log::start();
    let mut server = Server::start();
    let engine = server.engine();
    until_connected(&engine).await;
    server.kill();
    read_at_once(&engine, 200).await;
    read_at_once(&engine, 200).await;
    assert_eq!(log.count(BACK), 0);
    // The pauses between attempts grow; the next one comes all the same.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((log.count(AWAY), log.count(BACK)), (1, 0), "{}", log.text());
    server.restart();
    until_connected(&engine).await;
    engine.put("a", b"x", MINUTE).await;
    assert!(engine.get("a", 100).await.is_some());
    assert_eq!((log.count(AWAY), log.count(BACK)), (1, 1), "{}", log.text());
}

#[tokio::test]
async fn a_service_starts_without_its_engine() {
    let (log, _guard) = Log::start();
    // Nobody listens here.
    let engine = Engine::new(&settings(&format!("redis://127.0.0.1:{}", free_port()))).unwrap();
    read_at_once(&engine, 200).await;
    read_at_once(&engine, 200).await;
    assert_eq!(engine.counts().done, 0);
    until(
        "it is found to be away",
        || engine.counts().skipped,
        async |before| {
            read_at_once(&engine, 1).await;
            engine.counts().skipped > before
        },
    )
    .await;
    assert_eq!(log.count(AWAY), 1, "{}", log.text());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_service_whose_engine_is_frozen_at_its_start_waits_once() {
    // It accepts connections and never replies.
    let server = Server::start();
    server.freeze();
    let engine = server.engine();
    read_at_once(&engine, 200).await;
    let waited = engine.counts().waited;
    assert!((1..=200).contains(&waited), "{waited}");
    read_at_once(&engine, 200).await;
    assert_eq!(engine.counts().waited, waited);
    server.thaw();
    until_connected(&engine).await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_first_calls_wait_for_the_first_connection() {
    let server = Server::start();
    server.run::<()>(&["PING"]);
    let engine = server.engine();
    engine.put("a", b"x", MINUTE).await;
    assert!(engine.get("a", 100).await.is_some(), "{:?}", engine.counts());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn documents_are_gone_after_a_flush_and_the_engine_stays_in_use() {
    let server = Server::start();
    let engine = server.engine();
    until_connected(&engine).await;
    engine.put("a", b"x", MINUTE).await;
    server.run::<()>(&["FLUSHALL"]);
    server.run::<()>(&["SCRIPT", "FLUSH"]);
    assert_eq!(engine.get("a", 100).await, None);
    engine.put("a", b"y", MINUTE).await;
    assert_eq!(engine.get("a", 100).await.unwrap().value.as_ref(), b"y");
    assert_eq!(engine.counts().skipped, 0);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_full_engine_is_read_and_not_written() {
    let (log, _guard) = Log::start();
    let server = Server::start();
    let engine = server.engine();
    until_connected(&engine).await;
    engine.put("kept", b"x", MINUTE).await;
    server.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let (before, began) = (engine.counts(), Instant::now());
    for _ in 0..20 {
        engine.put("a", &[0; 1000], MINUTE).await;
        assert!(matches!(engine.lease("a").await, Lease::Alone));
        assert!(engine.get("kept", 100).await.is_some());
    }
    assert_eq!(engine.get("a", 10_000).await, None);
    let full = engine.counts();
    assert_eq!(full.refused - before.refused, 40);
    assert_eq!((full.waited, full.failed, full.skipped), (before.waited, before.failed, before.skipped));
    // The engine itself was asked once a second.
    let errors = server.run::<String>(&["INFO", "errorstats"]);
    let refusals = errors.split("errorstat_OOM:count=").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let refusals: u64 = refusals.parse().unwrap();
    assert!(refusals <= 2 + began.elapsed().as_secs(), "{refusals} refusals");
    // A session that is opened while the engine is full is used too.
    let second = server.engine();
    until_connected(&second).await;
    assert!(second.get("kept", 100).await.is_some());

    server.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    until(
        "it is written to again",
        || (),
        async |()| {
            engine.put("a", b"y", MINUTE).await;
            engine.get("a", 100).await.is_some()
        },
    )
    .await;
    assert_eq!(log.count("refuses writes"), 1, "{}", log.text());
    assert_eq!(log.count("takes writes again"), 1, "{}", log.text());
    assert_eq!(log.count(AWAY), 0, "{}", log.text());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_connection_that_is_killed_is_opened_again() {
    let server = Server::start();
    let engine = server.engine();
    for _ in 0..3 {
        until_connected(&engine).await;
        engine.put("a", b"x", MINUTE).await;
        // All but the administrator's own.
        server.run::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        let began = Instant::now();
        while engine.get("a", 100).await.is_none() {
            assert!(began.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!(engine.counts().waited, 0);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_read_only_replica_is_not_used_until_it_is_the_master() {
    let master = Server::start();
    let replica = Server::start();
    let engine = replica.engine();
    until_connected(&engine).await;
    engine.put("a", b"x", MINUTE).await;
    replica.run::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    // The first write finds out.
    until(
        "it is not used",
        || engine.counts().skipped,
        async |before| {
            engine.put("b", b"x", MINUTE).await;
            engine.counts().skipped > before
        },
    )
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = engine.counts();
    read_at_once(&engine, 50).await;
    assert_eq!(engine.counts().skipped - before.skipped, 50);
    replica.run::<()>(&["REPLICAOF", "NO", "ONE"]);
    until_connected(&engine).await;
}

/// A relay to a server that delays what the server says, while `slow` is set.
async fn slow_relay(port: u16, slow: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let slow = Arc::clone(&slow);
            tokio::spawn(async move {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let mut buffer = vec![0; 1 << 16];
                while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                    if slow.load(SeqCst) {
                        tokio::time::sleep(OPERATION_LIMIT * 2).await;
                    }
                    if to_client.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address.port()
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_engine_that_replies_too_late_is_waited_for_once() {
    let server = Server::start();
    let slow = Arc::new(AtomicBool::new(false));
    let port = slow_relay(server.port(), Arc::clone(&slow)).await;
    let engine = Engine::new(&settings(&format!("redis://127.0.0.1:{port}"))).unwrap();
    until_connected(&engine).await;
    slow.store(true, SeqCst);
    read_at_once(&engine, 50).await;
    let waited = engine.counts().waited;
    assert!(waited > 0);
    // It accepts connections, and signs in; but it is not used as long as its replies come too late.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        read_at_once(&engine, 10).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(engine.counts().waited, waited);
    slow.store(false, SeqCst);
    until_connected(&engine).await;
}
