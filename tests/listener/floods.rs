//! HTTP/2 floods: the connection of a flood is closed, and no other is affected.

use std::sync::atomic::Ordering;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::yield_now,
    time::timeout,
};

use crate::{
    caller::{Caller, PATIENCE, SERVING},
    server::{settings, start},
    wire::{self, frame},
};

#[tokio::test]
async fn a_rapid_reset_flood_ends_its_connection_and_no_other() {
    let server = start(settings()).await;
    let mut other_caller = Caller::connect(server.address).await.unwrap();
    let (mut read, mut write) = wire::open(server.address).await.into_split();
    let flood = tokio::spawn(async move {
        let block = wire::call("/test.TestService/Hold");
        for stream in (1..200_000).step_by(2) {
            let mut pair = frame(wire::HEADERS, wire::END_HEADERS | wire::END_STREAM, stream, &block);
            pair.extend(frame(wire::RST_STREAM, 0, stream, &wire::CANCEL.to_be_bytes()));
            if write.write_all(&pair).await.is_err() {
                return true;
            }
        }
        false
    });
    let goaway = wire::next_of(&mut read, wire::GOAWAY).await;
    if let Ok(goaway) = goaway {
        assert_eq!(goaway.code(), wire::ENHANCE_YOUR_CALM);
    }
    assert!(
        timeout(PATIENCE, flood).await.unwrap().unwrap(),
        "the connection is still open after 100,000 resets"
    );
    assert_eq!(other_caller.health().await.unwrap(), SERVING);
}

/// Each stream reaches its handler before it is reset, so that h2 sees nothing but cancelled calls.
#[tokio::test]
async fn a_slow_reset_flood_ends_its_connection() {
    let server = start(settings()).await;
    let mut attacker = wire::open(server.address).await;
    let block = wire::call("/test.TestService/Hold");
    let mut resets = 0;
    let flood = async {
        for stream in (1..).step_by(2) {
            let flags = wire::END_HEADERS | wire::END_STREAM;
            let begin = frame(wire::HEADERS, flags, stream, &block);
            if attacker.write_all(&begin).await.is_err() {
                return;
            }
            while server.calls.load(Ordering::SeqCst) == 0 {
                if attacker.try_read(&mut [0; 64]).is_ok_and(|read| read == 0) {
                    return;
                }
                yield_now().await;
            }
            let reset = frame(wire::RST_STREAM, 0, stream, &wire::CANCEL.to_be_bytes());
            if attacker.write_all(&reset).await.is_err() {
                return;
            }
            while server.calls.load(Ordering::SeqCst) > 0 {
                yield_now().await;
            }
            resets += 1;
        }
    };
    timeout(PATIENCE, flood).await.expect("the connection ends");
    assert!(resets >= 1000, "an ordinary caller would be closed after {resets} resets");
}

#[tokio::test]
async fn an_endless_header_block_ends_its_connection() {
    let server = start(settings()).await;
    let mut attacker = wire::open(server.address).await;
    let mut first = frame(wire::HEADERS, wire::END_STREAM, 1, &wire::call("/test.TestService/Hold"));
    first.extend(frame(wire::CONTINUATION, 0, 1, &wire::headers(&[("x", "y")])));
    attacker.write_all(&first).await.unwrap();
    let mut sent = 0;
    while sent < 1000 {
        let more = frame(wire::CONTINUATION, 0, 1, &wire::headers(&[("x", "y")]));
        if attacker.write_all(&more).await.is_err() {
            break;
        }
        sent += 1;
        yield_now().await;
    }
    assert!(
        wire::closes_within(&mut attacker, PATIENCE).await,
        "the connection is still open after {sent} CONTINUATION frames"
    );
}

#[tokio::test]
async fn a_header_list_over_16_kib_does_not_reach_the_service() {
    let server = start(settings()).await;
    let mut attacker = wire::open(server.address).await;
    let value = "v".repeat(120);
    // A field counts its text and 32 bytes: 153 × 120 is over 16 KiB, and under four times that.
    let fields = vec![("x", value.as_str()); 120];
    let block = [wire::call("/test.TestService/Hold"), wire::headers(&fields)].concat();
    let (first, second) = block.split_at(8000);
    let mut request = frame(wire::HEADERS, wire::END_STREAM, 1, first);
    request.extend(frame(wire::CONTINUATION, wire::END_HEADERS, 1, second));
    attacker.write_all(&request).await.unwrap();
    let response = loop {
        let frame = wire::next(&mut attacker).await.unwrap();
        if frame.stream == 1 {
            break frame;
        }
    };
    // `:status: 431`: the name is 8 in the static table, the value is Huffman coded (RFC 7541, appendices A and B).
    assert_eq!(response.kind, wire::HEADERS, "{response:?}");
    assert_eq!(response.payload[..5], [0x48, 0x83, 0x69, 0x90, 0xff], "{response:?}");
    assert_eq!(server.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_ping_flood_ends_its_connection_and_no_other() {
    let server = start(settings()).await;
    let mut other_caller = Caller::connect(server.address).await.unwrap();
    let (mut read, mut write) = wire::open(server.address).await.into_split();
    let flood = tokio::spawn(async move {
        let ping = frame(wire::PING, 0, 0, &[0; 8]);
        for _ in 0..100_000 {
            if write.write_all(&ping).await.is_err() {
                return true;
            }
        }
        false
    });
    let mut received = Vec::new();
    let _reset = timeout(PATIENCE, read.read_to_end(&mut received)).await.expect("the connection ends");
    assert!(
        timeout(PATIENCE, flood).await.unwrap().unwrap(),
        "the connection is still open after 100,000 PINGs"
    );
    assert!(received.len() < 2000 * 17, "the server sent {} bytes", received.len());
    assert_eq!(other_caller.health().await.unwrap(), SERVING);
}

#[tokio::test]
async fn one_ping_per_response_is_allowed() {
    let server = start(settings()).await;
    let mut caller = wire::open(server.address).await;
    let block = wire::call("/grpc.health.v1.Health/Check");
    // Three times as many PINGs as a flood may send.
    for stream in (1..6000).step_by(2) {
        let mut call = frame(wire::HEADERS, wire::END_HEADERS, stream, &block);
        call.extend(frame(wire::DATA, wire::END_STREAM, stream, &[0; 5]));
        call.extend(frame(wire::PING, 0, 0, &[0; 8]));
        caller.write_all(&call).await.unwrap();
        let mut awaited = vec![wire::HEADERS, wire::DATA, wire::HEADERS, wire::PING];
        while !awaited.is_empty() {
            let kind = wire::next(&mut caller).await.expect("the connection stays").kind;
            if let Some(at) = awaited.iter().position(|awaited| *awaited == kind) {
                awaited.remove(at);
            }
        }
    }
}
