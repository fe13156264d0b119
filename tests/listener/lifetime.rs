//! The maximum age of connections.

use std::time::Duration;

use rexd::server::Settings;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout},
};

use crate::{
    caller::{Caller, PATIENCE, end},
    server::{NEVER, settings, start},
    wire::{self, frame},
};

const AGE: Duration = Duration::from_millis(200);

fn aging(grace: Duration) -> Settings {
    Settings { max_connection_age: AGE, max_connection_age_grace: grace, ..settings() }
}

#[tokio::test]
async fn an_old_connection_gets_goaway_no_more_than_a_tenth_early() {
    let server = start(aging(NEVER)).await;
    let begun = Instant::now();
    let mut caller = wire::open(server.address).await;
    let goaway = wire::next_of(&mut caller, wire::GOAWAY).await.unwrap();
    assert_eq!(goaway.code(), 0, "NO_ERROR");
    assert!(begun.elapsed() >= AGE.mul_f64(0.89), "after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_call_on_an_old_connection_finishes() {
    let server = start(aging(NEVER)).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    let call = caller.work("Hold", 600).await.unwrap();
    assert_eq!(end(call).await.unwrap().code, 0);
    timeout(PATIENCE, caller.connection)
        .await
        .expect("an old connection without calls ends")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_call_that_outlives_the_grace_ends_as_unavailable() {
    let server = start(aging(AGE)).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    let call = caller.work("Hold", 3_600_000).await.unwrap();
    let response = end(call).await.unwrap();
    assert_eq!((response.code, response.message.as_str()), (14, "server%20is%20shutting%20down"));
}

#[tokio::test]
async fn a_peer_that_ignores_goaway_is_closed_after_the_grace() {
    let server = start(aging(AGE)).await;
    let mut peer = wire::open(server.address).await;
    wire::next_of(&mut peer, wire::GOAWAY).await.unwrap();
    // It responds to nothing, not even to the PING that comes with the GOAWAY.
    assert!(wire::closes_within(&mut peer, PATIENCE).await);
}

#[tokio::test]
async fn a_peer_that_does_not_acknowledge_pings_is_closed() {
    let server = start(Settings { keep_alive_interval: AGE, keep_alive_timeout: AGE, ..settings() }).await;
    let mut peer = wire::open(server.address).await;
    wire::next_of(&mut peer, wire::PING).await.unwrap();
    assert!(wire::closes_within(&mut peer, PATIENCE).await);
}

#[tokio::test]
async fn a_peer_that_acknowledges_pings_stays_connected() {
    let server = start(Settings { keep_alive_interval: AGE, keep_alive_timeout: AGE, ..settings() }).await;
    let mut peer = wire::open(server.address).await;
    let begun = Instant::now();
    while begun.elapsed() < AGE * 6 {
        let ping = wire::next_of(&mut peer, wire::PING).await.unwrap();
        peer.write_all(&frame(wire::PING, wire::ACK, 0, &ping.payload)).await.unwrap();
    }
}
