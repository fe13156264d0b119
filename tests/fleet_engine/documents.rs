//! Documents: put, read, aged, removed.

use std::time::Duration;

use rexd::reads::fleet::{Engine, MAX_DOCUMENT, Settings};

use crate::server::{Server, settings, until, until_connected};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_document_that_one_replica_puts_is_read_by_another_with_its_age() {
    let server = Server::start();
    let (one, other) = (server.engine(), server.engine());
    assert_eq!(one.get("manifest", MAX_DOCUMENT).await, None);
    one.put("manifest", b"bytes\r\n\0", MINUTE).await;
    let first = other.get("manifest", MAX_DOCUMENT).await.unwrap();
    assert_eq!(first.value.as_ref(), b"bytes\r\n\0");
    assert!(first.age < MINUTE / 2, "{:?}", first.age);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let later = other.get("manifest", MAX_DOCUMENT).await.unwrap();
    assert!(later.age >= first.age + Duration::from_millis(40), "{:?}, then {:?}", first.age, later.age);
    // Put again, it is new again.
    one.put("manifest", b"", MINUTE).await;
    let again = other.get("manifest", MAX_DOCUMENT).await.unwrap();
    assert!(again.value.is_empty());
    other.remove("manifest").await;
    assert_eq!(one.get("manifest", MAX_DOCUMENT).await, None);
    assert_eq!(one.counts().waited + other.counts().waited, 0);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_document_ends_with_its_time() {
    let server = Server::start();
    let engine = server.engine();
    engine.put("short", b"x", Duration::from_millis(200)).await;
    assert!(server.run::<i64>(&["DBSIZE"]) >= 1);
    until("it is gone", || (), async |()| engine.get("short", MAX_DOCUMENT).await.is_none()).await;
    assert_eq!(engine.counts().done, engine.counts().done.max(2));
    // A time of zero is not kept at all, and the longest one is bounded.
    engine.put("none", b"x", Duration::ZERO).await;
    engine.put("long", b"x", Duration::MAX).await;
    assert_eq!(engine.get("none", MAX_DOCUMENT).await, None);
    assert!(engine.get("long", MAX_DOCUMENT).await.is_some());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_document_over_the_limit_is_neither_put_nor_read() {
    let server = Server::start();
    let engine = server.engine();
    until_connected(&engine).await;
    engine.put("large", &vec![7; MAX_DOCUMENT + 1], MINUTE).await;
    assert_eq!(engine.get("large", usize::MAX).await, None);
    engine.put("small", &[7; 1000], MINUTE).await;
    assert_eq!(engine.get("small", 999).await, None);
    assert_eq!(engine.get("small", 1000).await.unwrap().value.len(), 1000);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_largest_document_arrives_whole() {
    let server = Server::start();
    let engine = server.engine();
    let document: Vec<u8> = (0..MAX_DOCUMENT).map(|index| (index % 251) as u8).collect();
    // On a slow machine it may take more than the limit of an operation; then it is as if it had been evicted.
    until(
        "it is read",
        || (),
        async |()| {
            engine.put("largest", &document, MINUTE).await;
            engine.get("largest", MAX_DOCUMENT).await.is_some_and(|kept| kept.value == document)
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn what_somebody_else_wrote_under_a_key_is_not_a_document() {
    let server = Server::start();
    let engine = server.engine();
    engine.put("a", b"x", MINUTE).await;
    let [key] = <[String; 1]>::try_from(server.run::<Vec<String>>(&["KEYS", "*document*"])).unwrap();
    for command in [
        ["SET", &key, "short"].as_slice(),
        &["SET", &key, "without an expiry"],
        &["SET", &key, "\0\0\0\0\0\0\0\u{1}more time left than it had", "PX", "60000"],
    ] {
        server.run::<()>(command);
        assert_eq!(engine.get("a", MAX_DOCUMENT).await, None, "{command:?}");
    }
    server.run::<()>(&["DEL", &key]);
    server.run::<()>(&["LPUSH", &key, "a list"]);
    assert_eq!(engine.get("a", MAX_DOCUMENT).await, None);
    // The engine is used on.
    engine.put("a", b"y", MINUTE).await;
    assert_eq!(engine.get("a", MAX_DOCUMENT).await.unwrap().value.as_ref(), b"y");
    assert_eq!(engine.counts().skipped, 0);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn keys_have_the_prefix_and_the_version_and_show_no_name() {
    let server = Server::start();
    let engine = server.engine();
    let other = Engine::new(&Settings { prefix: "other".to_owned(), ..settings(&server.url()) }).unwrap();
    let name = "docker.io/library/canary";
    engine.put(name, b"x", MINUTE).await;
    let lease = engine.lease(name).await;
    engine.pauses().announce("docker.io", MINUTE);
    until("all is written", || (), async |()| server.run::<i64>(&["DBSIZE"]) >= 3).await;
    for key in server.run::<Vec<String>>(&["KEYS", "*"]) {
        assert!(key.starts_with("rexd:1:") && !key.contains("canary") && key.len() < 110, "{key}");
    }
    assert_eq!(other.get(name, MAX_DOCUMENT).await, None);
    drop(lease);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn large_documents_take_turns_and_do_not_make_the_engine_seem_slow() {
    let server = Server::start();
    let engine = server.engine();
    until_connected(&engine).await;
    let document = vec![7; 1 << 20];
    until(
        "it is there",
        || (),
        async |()| {
            engine.put("large", &document, MINUTE).await;
            engine.get("large", MAX_DOCUMENT).await.is_some()
        },
    )
    .await;
    // 256 MiB at once take seconds. Those that have no turn in time go on without, and nobody takes the engine for slow. (On a
    // slow machine it may be slow once.)
    until(
        "256 reads at once end without a wait",
        || engine.counts(),
        async |before| {
            let reads = (0..256).map(|_| {
                let engine = engine.clone();
                tokio::spawn(async move { engine.get("large", MAX_DOCUMENT).await.is_some() })
            });
            let mut found = 0;
            for read in reads.collect::<Vec<_>>() {
                found += u64::from(read.await.unwrap());
            }
            let after = engine.counts();
            assert!(after.done - before.done >= found);
            found > 0 && (after.waited, after.failed) == (before.waited, before.failed)
        },
    )
    .await;
}
