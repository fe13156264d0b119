//! Pauses that one replica is asked for and all keep.

use std::{sync::Arc, time::Duration};

use rexd::client::SharedPauses;

use crate::server::{Server, until};

async fn learns(pauses: &Arc<dyn SharedPauses>, registry: &str, longer_than: Duration) {
    until(
        "the pause is known",
        || (),
        async |()| {
            let until = pauses.paused_until(registry);
            until.is_some_and(|until| until > tokio::time::Instant::now() + longer_than)
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_pause_reaches_the_other_replica_and_ends() {
    let server = Server::start();
    let (one, other) = (server.engine().pauses(), server.engine().pauses());
    assert_eq!(other.paused_until("docker.io"), None);
    one.announce("docker.io", Duration::from_secs(60));
    one.announce("ghcr.io", Duration::from_secs(3));
    learns(&other, "docker.io", Duration::from_secs(30)).await;
    learns(&other, "ghcr.io", Duration::ZERO).await;
    assert_eq!(other.paused_until("quay.io"), None);
    // A shorter pause does not end a longer one.
    one.announce("docker.io", Duration::from_secs(1));
    until("the short pause ends", || (), async |()| other.paused_until("ghcr.io").is_none()).await;
    learns(&other, "docker.io", Duration::from_secs(20)).await;
    // One that comes late learns of it too.
    learns(&server.engine().pauses(), "docker.io", Duration::from_secs(10)).await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_request_asks_nothing_of_the_engine() {
    let server = Server::start();
    let engine = server.engine();
    let pauses = engine.pauses();
    crate::server::until_connected(&engine).await;
    let before = engine.counts().done;
    for _ in 0..10_000 {
        assert_eq!(pauses.paused_until("docker.io"), None);
    }
    assert!(engine.counts().done - before < 100);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_number_of_pauses_is_bounded_and_they_expire() {
    let server = Server::start();
    let pauses = server.engine().pauses();
    for number in 0..1200 {
        pauses.announce(&format!("r{number}.test"), Duration::from_secs(20 + number));
        if number % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    learns(&pauses, "r1199.test", Duration::from_secs(1000)).await;
    let key = &server.run::<Vec<String>>(&["KEYS", "*pauses*"])[0];
    assert!(server.run::<usize>(&["ZCARD", key]) <= 1000);
    let left = server.run::<u64>(&["PTTL", key]);
    assert!((1..=1_220_000).contains(&left), "{left}");
    pauses.announce(&"long".repeat(100), Duration::from_secs(1));
    pauses.announce("forever.test", Duration::MAX);
    learns(&pauses, "forever.test", Duration::from_secs(80_000)).await;
    assert!(server.run::<u64>(&["PTTL", key]) <= 24 * 60 * 60 * 1000);
}
