//! Callers that send many frames for a good reason. Their connections stay open.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    caller::Caller,
    server::{READ_FRAME_BYTES, settings, start},
    wire::{self, frame, headers},
};

const BYTES: usize = 64 << 20;

async fn begin_to_read(caller: &mut TcpStream) {
    let bytes = BYTES.to_string();
    let block = [wire::call("/test.TestService/Read"), headers(&[("x-bytes", &bytes)])].concat();
    caller.write_all(&frame(wire::HEADERS, wire::END_HEADERS | wire::END_STREAM, 1, &block)).await.unwrap();
}

/// Reads to the end, and opens both windows by `step` bytes whenever that many have arrived. Returns the number of
/// WINDOW_UPDATE frames.
async fn read_with_window_updates(caller: &mut TcpStream, step: usize) -> usize {
    let (mut received, mut opened, mut updates) = (0, 0, 0);
    while received < BYTES {
        let next = wire::next(caller).await.expect("the connection stays");
        assert!(!matches!(next.kind, wire::GOAWAY | wire::RST_STREAM), "{next:?}");
        if next.kind == wire::DATA {
            received += next.payload.len();
        }
        let mut frames = Vec::new();
        while received - opened >= step {
            opened += step;
            for stream in [0, 1] {
                frames.extend(frame(wire::WINDOW_UPDATE, 0, stream, &(step as u32).to_be_bytes()));
                updates += 1;
            }
        }
        caller.write_all(&frames).await.unwrap();
    }
    updates
}

/// Go's net/http opens the windows in steps of 4 KiB.
#[tokio::test]
async fn a_fast_reader_that_opens_its_windows_in_small_steps_is_served() {
    let server = start(settings()).await;
    for step in [4096, 16_384] {
        let mut caller = wire::open(server.address).await;
        begin_to_read(&mut caller).await;
        let updates = read_with_window_updates(&mut caller, step).await;
        assert!(updates >= 2 * (BYTES / step), "{updates}");
    }
}

/// The caller opens a large window again only when all its bytes have arrived.
#[tokio::test]
async fn a_reader_with_a_large_window_may_open_it_in_one_burst() {
    const WINDOW: usize = 8 << 20;
    const STEP: usize = 4096;
    let server = start(settings()).await;
    let mut caller = wire::open(server.address).await;
    for stream in [0, 1] {
        let more = (WINDOW - 65_535) as u32;
        if stream == 1 {
            begin_to_read(&mut caller).await;
        }
        caller.write_all(&frame(wire::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())).await.unwrap();
    }
    let mut received = 0;
    while received < BYTES {
        let next = wire::next(&mut caller).await.expect("the connection stays");
        if next.kind == wire::DATA {
            received += next.payload.len();
        }
        if next.kind == wire::DATA && received % WINDOW == 0 {
            let pair =
                [0, 1].map(|stream| frame(wire::WINDOW_UPDATE, 0, stream, &(STEP as u32).to_be_bytes()));
            caller.write_all(&pair.concat().repeat(WINDOW / STEP)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_client_library_with_a_small_window_reads_a_large_response() {
    let server = start(settings()).await;
    let io = TcpStream::connect(server.address).await.unwrap();
    let (send, connection) = h2::client::Builder::new()
        .initial_window_size(8192)
        .initial_connection_window_size(65_535)
        .handshake::<_, bytes::Bytes>(io)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post("http://rexd.test/test.TestService/Read")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-bytes", BYTES.to_string());
    let mut send = send.ready().await.unwrap();
    let (response, _) = send.send_request(request.body(()).unwrap(), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut received = 0;
    while let Some(data) = body.data().await {
        let data = data.expect("the connection stays");
        // In pieces, like a program that reads into a buffer.
        for piece in data.chunks(1024) {
            body.flow_control().release_capacity(piece.len()).unwrap();
        }
        received += data.len();
    }
    assert_eq!(received, BYTES / READ_FRAME_BYTES * READ_FRAME_BYTES);
    drop(connection);
}

#[tokio::test]
async fn a_few_priority_frames_for_each_call_are_allowed() {
    let server = start(settings()).await;
    let mut caller = wire::open(server.address).await;
    let block = wire::call("/grpc.health.v1.Health/Check");
    for stream in (1..4000).step_by(2) {
        let mut call = frame(wire::HEADERS, wire::END_HEADERS, stream, &block);
        for _ in 0..3 {
            call.extend(frame(wire::PRIORITY, 0, stream, &[0, 0, 0, 0, 16]));
        }
        call.extend(frame(wire::DATA, 0, stream, &[0; 5]));
        call.extend(frame(wire::DATA, wire::END_STREAM, stream, &[]));
        caller.write_all(&call).await.unwrap();
        let mut trailers = 0;
        while trailers < 2 {
            let next = wire::next(&mut caller).await.expect("the connection stays");
            trailers += usize::from(next.kind == wire::HEADERS);
        }
    }
}

/// A caller that acknowledges PINGs sends only as many frames as it received.
#[tokio::test]
async fn keep_alive_pings_may_be_acknowledged_without_limit() {
    let keep_alive_interval = std::time::Duration::from_millis(1);
    let server = start(rexd::server::Settings { keep_alive_interval, ..settings() }).await;
    let mut caller = wire::open(server.address).await;
    // A connection without calls gets no PING.
    let held = frame(wire::HEADERS, wire::END_HEADERS, 1, &wire::call("/test.TestService/Hold"));
    caller.write_all(&held).await.unwrap();
    for _ in 0..1500 {
        let ping = wire::next_of(&mut caller, wire::PING).await.expect("the connection stays");
        caller.write_all(&frame(wire::PING, wire::ACK, 0, &ping.payload)).await.unwrap();
    }
    let mut more = [0; 17];
    caller.read_exact(&mut more).await.expect("the connection stays");
    assert_eq!(Caller::connect(server.address).await.unwrap().health().await.unwrap(), 1);
}
