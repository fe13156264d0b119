//! Requests that do not arrive in full, or not in time, and slow requests that do.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use h2::{SendStream, client::ResponseFuture};
use rexd::server::Settings;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    caller::{Caller, NOT_SERVING, PATIENCE, Response, SERVING, end},
    server::{settings, start},
    signals::Process,
    wire::{self, frame},
};

const LIMIT: Duration = Duration::from_millis(300);

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// A message of Health/Check that asks for the server as a whole: no field is set.
const MESSAGE: [u8; 5] = [0; 5];
/// The beginning of a message of 60,000 bytes.
const LARGE_PREFIX: [u8; 5] = [0, 0, 0, 0xea, 0x60];
/// A message of server reflection: `list_services`, field 7, with an empty string.
const LIST_SERVICES: [u8; 7] = [0, 0, 0, 0, 2, 0x3a, 0];

fn impatient() -> Settings {
    Settings { request_timeout: LIMIT, ..settings() }
}

/// Longer than a test takes, so that the limit is not what ends anything.
fn patient() -> Settings {
    Settings { request_timeout: PATIENCE * 10, ..settings() }
}

fn assert_request_timeout(response: &Response) {
    let status = Status::from_header_map(&response.trailers).unwrap();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("REQUEST_TIMEOUT", "rexd.registry.v1"));
    assert!(details.retry_info().unwrap().retry_delay.is_some_and(|delay| !delay.is_zero()));
}

/// The status must be REQUEST_TIMEOUT, and the stream closed in both directions, so that nothing of it is kept.
async fn expect_request_timeout(response: ResponseFuture, mut request: SendStream<Bytes>) {
    assert_request_timeout(&end(response).await.unwrap());
    let reset = timeout(PATIENCE, poll_fn(|context| request.poll_reset(context))).await;
    assert_eq!(reset.expect("the stream is reset").unwrap(), h2::Reason::NO_ERROR);
}

/// Sends a byte again and again, until the stream or the connection has ended.
async fn trickle(request: &mut SendStream<Bytes>) {
    while request.send_data(Bytes::from_static(b"x"), false).is_ok() {
        sleep(LIMIT / 10).await;
    }
}

#[tokio::test]
async fn a_request_whose_message_never_comes_ends_as_unavailable() {
    let server = start(impatient()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    let begun = Instant::now();
    let (response, request) = caller.send_headers(CHECK).await.unwrap();
    expect_request_timeout(response, request).await;
    assert!(begun.elapsed() >= LIMIT, "it had its time");
    assert_eq!(caller.health().await.unwrap(), SERVING, "the connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_that_of_the_configuration() {
    let mut process = Process::start_with(&[("REXD_LIMITS__REQUEST_TIMEOUT", "300ms")]);
    let mut caller = Caller::connect(process.listen_address()).await.unwrap();
    let (response, request) = caller.send_headers("/rex.registry.v1.RegistryService/Ping").await.unwrap();
    expect_request_timeout(response, request).await;
}

#[tokio::test]
async fn a_message_that_trickles_in_ends_at_the_limit() {
    let server = start(impatient()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    let (response, mut request) = caller.send_headers(CHECK).await.unwrap();
    request.send_data(Bytes::from_static(&LARGE_PREFIX), false).unwrap();
    let (response, ()) =
        timeout(PATIENCE, async { tokio::join!(end(response), trickle(&mut request)) }).await.unwrap();
    assert_request_timeout(&response.unwrap());
}

/// The generated server waits for the caller's trailers before it calls the handler.
#[tokio::test]
async fn a_message_without_end_stream_ends_as_unavailable() {
    let server = start(impatient()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    for path in [CHECK, WATCH] {
        let (response, mut request) = caller.send_headers(path).await.unwrap();
        request.send_data(Bytes::from_static(&MESSAGE), false).unwrap();
        expect_request_timeout(response, request).await;
    }
}

#[tokio::test]
async fn messages_after_the_first_do_not_extend_the_time_of_a_unary_call() {
    let server = start(impatient()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    let (response, mut request) = caller.send_headers(CHECK).await.unwrap();
    let sending = async {
        while request.send_data(Bytes::from_static(&MESSAGE), false).is_ok() {
            sleep(LIMIT / 10).await;
        }
    };
    let (response, ()) = timeout(PATIENCE, async { tokio::join!(end(response), sending) }).await.unwrap();
    assert_request_timeout(&response.unwrap());
}

/// As many requests as a connection may have: each frees its stream when its time is over.
#[tokio::test]
async fn requests_that_never_arrive_do_not_keep_their_streams() {
    let server = start(Settings { max_concurrent_streams: 10, ..impatient() }).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    assert_eq!(caller.health().await.unwrap(), SERVING, "the caller has read the limit of streams");
    for _ in 0..3 {
        let mut open = Vec::new();
        for _ in 0..10 {
            open.push(caller.send_headers(CHECK).await.unwrap());
        }
        for (response, _request) in open {
            assert_request_timeout(&end(response).await.unwrap());
        }
    }
    assert_eq!(caller.health().await.unwrap(), SERVING);
}

/// The services for probes and tools, whose callers need no token, do not wait for large messages.
#[tokio::test]
async fn a_message_over_64_kib_is_refused_when_its_length_has_come() {
    let server = start(patient()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    for path in [CHECK, WATCH, REFLECTION] {
        let (response, mut request) = caller.send_headers(path).await.unwrap();
        request.send_data(Bytes::from_static(&[0, 0, 1, 0, 1]), false).unwrap();
        let response = end(response).await.unwrap();
        // The reflection service ends its stream without an error.
        let code = if path == REFLECTION { Code::Ok } else { Code::OutOfRange };
        assert_eq!((response.code, response.body.len()), (code as i32, 0), "{path}");
    }
}

#[tokio::test]
async fn a_slow_request_within_the_limit_is_served() {
    let server = start(patient()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    let (response, mut request) = caller.send_headers(CHECK).await.unwrap();
    for byte in MESSAGE {
        sleep(LIMIT / 10).await;
        request.send_data(Bytes::copy_from_slice(&[byte]), false).unwrap();
    }
    sleep(LIMIT / 10).await;
    request.send_data(Bytes::new(), true).unwrap();
    let response = end(response).await.unwrap();
    assert_eq!((response.code, response.body.last()), (0, Some(&SERVING)));
}

/// A header block that is split into three frames.
fn split_headers(stream: u32, path: &str) -> [Vec<u8>; 3] {
    let block = wire::call(path);
    let (first, rest) = block.split_at(10);
    let (second, third) = rest.split_at(10);
    [
        frame(wire::HEADERS, 0, stream, first),
        frame(wire::CONTINUATION, 0, stream, second),
        frame(wire::CONTINUATION, wire::END_HEADERS, stream, third),
    ]
}

#[tokio::test]
async fn slow_headers_within_the_limit_are_served() {
    let server = start(patient()).await;
    let mut caller = wire::open(server.address).await;
    for piece in split_headers(1, CHECK).concat().chunks(7) {
        caller.write_all(piece).await.unwrap();
        sleep(Duration::from_millis(5)).await;
    }
    caller.write_all(&frame(wire::DATA, wire::END_STREAM, 1, &MESSAGE)).await.unwrap();
    let body = wire::next_of(&mut caller, wire::DATA).await.unwrap();
    assert_eq!(body.payload.last(), Some(&SERVING));
}

/// Sends the pieces one after another, and then nothing. Whether the server closes the connection.
async fn is_closed(caller: TcpStream, pieces: impl IntoIterator<Item = Vec<u8>>) -> bool {
    let (mut read, mut write) = caller.into_split();
    let sending = async {
        for piece in pieces {
            if write.write_all(&piece).await.is_err() {
                return;
            }
            sleep(LIMIT / 10).await;
        }
    };
    let (closed, ()) = tokio::join!(wire::closes_within(&mut read, PATIENCE), sending);
    closed
}

#[tokio::test]
async fn headers_whose_continuation_never_comes_close_the_connection() {
    let server = start(impatient()).await;
    for pieces in 1..=2 {
        let caller = wire::open(server.address).await;
        assert!(is_closed(caller, split_headers(1, CHECK).into_iter().take(pieces)).await, "{pieces}");
    }
}

#[tokio::test]
async fn a_continuation_frame_that_trickles_in_closes_the_connection() {
    let server = start(impatient()).await;
    let caller = wire::open(server.address).await;
    let [first, _, _] = split_headers(1, CHECK);
    let more = frame(wire::CONTINUATION, wire::END_HEADERS, 1, &wire::headers(&[("x", "y"); 2000]));
    let begun = Instant::now();
    assert!(is_closed(caller, [first].into_iter().chain(more.chunks(1).map(<[u8]>::to_vec))).await);
    assert!(begun.elapsed() >= LIMIT, "it had its time");
}

#[tokio::test]
async fn a_headers_frame_that_trickles_in_closes_the_connection() {
    let server = start(impatient()).await;
    let mut caller = wire::open(server.address).await;
    let whole = frame(wire::HEADERS, wire::END_HEADERS, 1, &wire::headers(&[("x", "y"); 2000]));
    caller.write_all(&whole[..20]).await.unwrap();
    assert!(is_closed(caller, whole[20..].chunks(1).map(<[u8]>::to_vec)).await);
}

/// The trailers of a request are a header block too.
#[tokio::test]
async fn trailers_that_do_not_end_close_the_connection() {
    let server = start(impatient()).await;
    let mut caller = wire::open(server.address).await;
    let request = frame(wire::HEADERS, wire::END_HEADERS, 1, &wire::call("/test.TestService/Hold"));
    caller.write_all(&request).await.unwrap();
    let trailers = frame(wire::HEADERS, wire::END_STREAM, 1, &wire::headers(&[("x", "y")]));
    assert!(is_closed(caller, [trailers]).await);
}

#[tokio::test]
async fn an_idle_connection_and_a_running_call_outlive_the_limit() {
    let server = start(impatient()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    let call = caller.work("Hold", (LIMIT * 3).as_millis() as u64).await.unwrap();
    assert_eq!(end(call).await.unwrap().code, 0);
    sleep(LIMIT * 2).await;
    assert_eq!(caller.health().await.unwrap(), SERVING);
}

#[tokio::test]
async fn a_health_watch_outlives_the_limit() {
    let server = start(impatient()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    let watch = caller.begin(WATCH, ("x-ms", "0"), &[]).await.unwrap();
    let mut updates = watch.await.unwrap().into_body();
    let mut next = async || timeout(PATIENCE, updates.data()).await.unwrap().expect("an update").unwrap();
    assert_eq!(next().await.last(), Some(&SERVING));
    sleep(LIMIT * 3).await;
    server.readiness.drain().await;
    assert_eq!(next().await.last(), Some(&NOT_SERVING));
}

#[tokio::test]
async fn server_reflection_may_pause_between_messages_for_longer_than_the_limit() {
    let server = start(impatient()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    let (response, mut request) = caller.send_headers(REFLECTION).await.unwrap();
    request.send_data(Bytes::from_static(&LIST_SERVICES), false).unwrap();
    let mut responses = timeout(PATIENCE, response).await.unwrap().unwrap().into_body();
    for _ in 0..2 {
        let listed = timeout(PATIENCE, responses.data()).await.unwrap().expect("a response").unwrap();
        assert!(listed.windows(15).any(|text| text == b"grpc.health.v1."), "{listed:?}");
        sleep(LIMIT * 3).await;
        request.send_data(Bytes::from_static(&LIST_SERVICES), false).unwrap();
    }
    request.send_data(Bytes::new(), true).unwrap();
    while timeout(PATIENCE, responses.data()).await.unwrap().is_some() {}
    let trailers = timeout(PATIENCE, responses.trailers()).await.unwrap().unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

/// The reflection service ends its stream without an error when its caller's ends with one.
#[tokio::test]
async fn server_reflection_without_a_whole_message_ends_at_the_limit() {
    let server = start(impatient()).await;
    let mut caller = Caller::connect(server.address).await.unwrap();
    for begins in [&[][..], &LARGE_PREFIX, &[&LIST_SERVICES[..], &LARGE_PREFIX].concat()] {
        let (response, mut request) = caller.send_headers(REFLECTION).await.unwrap();
        request.send_data(Bytes::copy_from_slice(begins), false).unwrap();
        let response = end(response).await.unwrap();
        assert_eq!(response.body.is_empty(), begins.len() < 10, "{begins:?}");
        let reset = timeout(PATIENCE, poll_fn(|context| request.poll_reset(context))).await;
        assert_eq!(reset.expect("the stream is reset").unwrap(), h2::Reason::NO_ERROR);
    }
}
