//! The published HTTP/2 attacks that send many frames, one row each: a connection that sends them is closed after a bounded
//! number.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::future::join_all;
use rexd::server::Settings;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    caller::{Caller, PATIENCE, SERVING},
    server::{Running, settings, start},
    wire::{self, frame, headers},
};

/// Every attack must be closed before it has sent its frames this often. The listener's bound is 1,000, and 100 a second.
const ROUNDS: u32 = 3000;

/// A row of the table.
struct Attack {
    /// The CVE or advisory, and what is sent.
    name: &'static str,
    /// Sent once.
    first: Vec<u8>,
    /// Sent repeatedly; the argument counts from 0.
    frames: fn(u32) -> Vec<u8>,
}

fn attack(name: &'static str, first: Vec<u8>, frames: fn(u32) -> Vec<u8>) -> Attack {
    Attack { name, first, frames }
}

/// The stream of this round.
fn stream(round: u32) -> u32 {
    2 * round + 1
}

/// A call that gets no response, which ends the request or leaves it open.
fn hold(stream: u32, flags: u8) -> Vec<u8> {
    frame(wire::HEADERS, wire::END_HEADERS | flags, stream, &wire::call("/test.TestService/Hold"))
}

/// A call whose response is 64 MiB.
fn read(stream: u32) -> Vec<u8> {
    let block = [wire::call("/test.TestService/Read"), headers(&[("x-bytes", "67108864")])].concat();
    frame(wire::HEADERS, wire::END_HEADERS | wire::END_STREAM, stream, &block)
}

fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(wire::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, section 6.5.2).
fn initial_window(bytes: u32) -> Vec<u8> {
    frame(wire::SETTINGS, 0, 0, &[&[0, 4][..], &bytes.to_be_bytes()].concat())
}

fn attacks() -> Vec<Attack> {
    let [none, open] = [Vec::new(), hold(1, 0)];
    vec![
        attack(
            "CVE-2019-9511 data dribble: a window opened byte by byte",
            [initial_window(0), read(1)].concat(),
            |_| window_update(1, 1),
        ),
        attack("CVE-2019-9512 PING flood", none.clone(), |_| frame(wire::PING, 0, 0, &[0; 8])),
        attack("CVE-2019-9513 resource loop: PRIORITY of idle streams", none.clone(), |round| {
            frame(wire::PRIORITY, 0, stream(round) + 1000, &[0, 0, 0, 0, 16])
        }),
        attack("CVE-2019-9514 reset flood: requests that are malformed", none.clone(), |round| {
            let block = headers(&[(":method", "POST")]);
            frame(wire::HEADERS, wire::END_HEADERS | wire::END_STREAM, stream(round), &block)
        }),
        attack("CVE-2019-9515 SETTINGS flood", none.clone(), |_| frame(wire::SETTINGS, 0, 0, &[])),
        attack("CVE-2019-9516 headers without names", none.clone(), |round| {
            let block = headers(&[("", ""); 40]);
            frame(wire::HEADERS, wire::END_HEADERS | wire::END_STREAM, stream(round), &block)
        }),
        attack("CVE-2019-9518 empty DATA", open.clone(), |_| frame(wire::DATA, 0, 1, &[])),
        attack("CVE-2019-9518 DATA with nothing but padding", open.clone(), |_| {
            frame(wire::DATA, wire::PADDED, 1, &[3, 0, 0, 0])
        }),
        attack("CVE-2019-9518 DATA that ends an ended stream", hold(1, wire::END_STREAM), |_| {
            frame(wire::DATA, wire::END_STREAM, 1, &[])
        }),
        attack("CVE-2019-9518 empty HEADERS", none.clone(), |round| {
            frame(wire::HEADERS, wire::END_HEADERS, stream(round), &[])
        }),
        attack(
            "CVE-2019-9518 empty CONTINUATION",
            frame(wire::HEADERS, wire::END_STREAM, 1, &wire::call("/test.TestService/Hold")),
            |_| frame(wire::CONTINUATION, 0, 1, &[]),
        ),
        attack("CVE-2019-9518 empty PUSH_PROMISE", open.clone(), |_| {
            frame(wire::PUSH_PROMISE, wire::END_HEADERS, 1, &2_u32.to_be_bytes())
        }),
        attack("CVE-2023-44487 rapid reset", none.clone(), |round| {
            let reset = frame(wire::RST_STREAM, 0, stream(round), &wire::CANCEL.to_be_bytes());
            [hold(stream(round), wire::END_STREAM), reset].concat()
        }),
        attack(
            "CVE-2024-27316, RUSTSEC-2024-0332 CONTINUATION flood",
            frame(wire::HEADERS, wire::END_STREAM, 1, &wire::call("/test.TestService/Hold")),
            |_| frame(wire::CONTINUATION, 0, 1, &headers(&[("x", "y")])),
        ),
        attack("CVE-2025-8671 made you reset: WINDOW_UPDATE of 0", none.clone(), |round| {
            [hold(stream(round), wire::END_STREAM), window_update(stream(round), 0)].concat()
        }),
        attack("CVE-2025-8671 made you reset: a window over 2^31 - 1", none.clone(), |round| {
            [hold(stream(round), wire::END_STREAM), window_update(stream(round), 0x7fff_ffff)].concat()
        }),
        attack("CVE-2025-8671 made you reset: HEADERS on a half-closed stream", none.clone(), |round| {
            hold(stream(round), wire::END_STREAM).repeat(2)
        }),
        attack("CVE-2025-8671 made you reset: DATA on a half-closed stream", none.clone(), |round| {
            [hold(stream(round), wire::END_STREAM), frame(wire::DATA, 0, stream(round), b"x")].concat()
        }),
        attack("CVE-2025-8671 made you reset: PRIORITY of a length other than 5", none.clone(), |round| {
            [hold(stream(round), wire::END_STREAM), frame(wire::PRIORITY, 0, stream(round), &[0; 4])].concat()
        }),
        attack("CVE-2025-8671 made you reset: a stream that depends on itself", none.clone(), |round| {
            let dependency = [&stream(round).to_be_bytes()[..], &[16]].concat();
            [hold(stream(round), wire::END_STREAM), frame(wire::PRIORITY, 0, stream(round), &dependency)]
                .concat()
        }),
        attack("PING ACK that acknowledges nothing", none.clone(), |_| {
            frame(wire::PING, wire::ACK, 0, &[0; 8])
        }),
        attack("SETTINGS ACK that acknowledges nothing", none.clone(), |_| {
            frame(wire::SETTINGS, wire::ACK, 0, &[])
        }),
        attack("PRIORITY of one stream", open.clone(), |_| frame(wire::PRIORITY, 0, 1, &[0, 0, 0, 0, 16])),
        attack("WINDOW_UPDATE of a stream without a response", open.clone(), |_| window_update(1, 1)),
        attack("WINDOW_UPDATE of the connection", none.clone(), |_| window_update(0, 1)),
        attack("unknown frame types", none.clone(), |round| frame(0x20 + (round % 64) as u8, 0, 0, &[0; 16])),
        attack("repeated GOAWAY", none.clone(), |_| frame(wire::GOAWAY, 0, 0, &[0; 8])),
        attack("requests over max_concurrent_streams", none, |round| hold(stream(round), wire::END_STREAM)),
    ]
}

/// Whether the server closes the connection of an attack that sends no more than [`ROUNDS`] times.
async fn is_closed(server: &Running, attack: &Attack) -> bool {
    let (mut read, mut write) = wire::open(server.address).await.into_split();
    let sending = async {
        if write.write_all(&attack.first).await.is_err() {
            return;
        }
        for round in 0..ROUNDS {
            if write.write_all(&(attack.frames)(round)).await.is_err() {
                return;
            }
        }
    };
    let mut received = [0; 4096];
    let reading = async { while read.read(&mut received).await.is_ok_and(|bytes| bytes > 0) {} };
    timeout(PATIENCE, async { tokio::join!(sending, reading) }).await.is_ok()
}

#[tokio::test]
async fn each_published_attack_ends_its_connection_and_no_other() {
    let server = start(settings()).await;
    let mut other_caller = Caller::connect(server.address).await.unwrap();
    let attacks = attacks();
    let outcomes = join_all(attacks.iter().map(|attack| is_closed(&server, attack))).await;
    let survived: Vec<_> =
        attacks.iter().zip(outcomes).filter(|(_, closed)| !closed).map(|(attack, _)| attack.name).collect();
    assert!(survived.is_empty(), "still open after {ROUNDS} rounds: {survived:#?}");
    assert_eq!(other_caller.health().await.unwrap(), SERVING);
    while server.calls.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
}

/// CVE-2019-9517: the peer opens the HTTP/2 windows, asks for large responses, and reads nothing from the socket.
#[tokio::test]
async fn a_peer_with_open_windows_that_reads_nothing_is_closed() {
    let server = start(Settings { write_stall: Duration::from_millis(500), ..settings() }).await;
    let mut attacker: TcpStream = wire::open(server.address).await;
    let windows = [initial_window(0x7fff_ffff), window_update(0, 0x7fff_0000)].concat();
    attacker.write_all(&windows).await.unwrap();
    for stream in (1..20).step_by(2) {
        attacker.write_all(&read(stream)).await.unwrap();
    }
    let writing = async {
        while attacker.write_all(&frame(wire::PING, wire::ACK, 0, &[0; 8])).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, writing).await.expect("the connection ends");
}
