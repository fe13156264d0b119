//! Small blobs to a caller that opens the largest windows and does not read its socket. Whole streams with their trailers
//! are then buffered in the service's HTTP/2 connection, where their memory must still count.

use std::{
    net::SocketAddr,
    ops::Range,
    time::{Duration, Instant},
};

use prost::Message as _;
use rexd::grpc::{StreamLimits, proto::StreamBlobRequest};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    time::sleep,
};
use tonic::Code;

use crate::{
    PATIENCE,
    support::{
        call::Call,
        scripted::{Reply, ScriptedRegistry},
        service::{Options, Service, memory_of, settings},
        status::Failure,
    },
};

/// Fits the send buffer of a stream.
const BLOB_BYTES: usize = 62_000;
/// Memory for 60 streams of 256 KiB.
const MEMORY: usize = 60 * (256 << 10);
/// Blobs that are requested at a time.
const BATCH: u32 = 20;
/// More batches than the memory is for, even though the kernel's buffers take 4 MiB and release those permits.
const MOST_BATCHES: u32 = 20;
/// Longer than a stream takes if it is read.
const STREAM_TIME: Duration = Duration::from_secs(1);

/// A service with memory for a few streams, in front of a registry with a blob.
struct Setting {
    service: Service,
    digest: String,
    _registry: ScriptedRegistry,
}

impl Setting {
    async fn new(write_stall: Duration) -> Self {
        let registry = ScriptedRegistry::start().await;
        let blob = vec![0x5a; BLOB_BYTES];
        let hex: String = Sha256::digest(&blob).iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = format!("sha256:{hex}");
        let reply = Reply::status(200).header("Content-Type", "application/octet-stream").body(blob);
        registry.always("GET", &format!("/v2/org/app/blobs/{digest}"), reply);
        let streams = StreamLimits { max_streams: 1000, memory: memory_of(MEMORY), write_stall };
        let mut options = Options { streams, ..Options::default() };
        options.server.write_stall = write_stall;
        let service = Service::start(vec![settings("unsent.test", registry.address())], options).await;
        Self { service, digest, _registry: registry }
    }

    async fn has_memory(&self) -> bool {
        let call = Call::blob("unsent.test", "org/app", &self.digest);
        match call.outcome(&mut self.service.client().await).await {
            Ok(()) => true,
            Err(status) => {
                Failure::expect(status, Code::Unavailable, "OVERLOADED", "one too many");
                false
            }
        }
    }

    async fn stays_without_memory(&self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < STREAM_TIME {
            if self.has_memory().await {
                return false;
            }
            sleep(Duration::from_millis(20)).await;
        }
        true
    }

    async fn wait_for_memory(&self) {
        let begun = Instant::now();
        while !self.has_memory().await {
            assert!(begun.elapsed() < PATIENCE, "the memory is still held");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// An unread connection that has requested blobs until the memory is used up.
    async fn fill_memory(&self) -> TcpStream {
        let request = StreamBlobRequest {
            repository: "org/app".to_owned(),
            digest: self.digest.clone(),
            ..StreamBlobRequest::default()
        };
        let mut unread = unread(self.service.address).await;
        for batch in 0..MOST_BATCHES {
            let first = batch * BATCH;
            unread.write_all(&calls(first..first + BATCH, &request.encode_to_vec())).await.unwrap();
            // The service opens them before the next batch arrives.
            sleep(STREAM_TIME / 4).await;
            if self.stays_without_memory().await {
                return unread;
            }
        }
        panic!("{MOST_BATCHES} × {BATCH} unread blobs do not count");
    }
}

/// RFC 9113, section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection with the largest windows and the smallest kernel buffer.
async fn unread(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    // SETTINGS_INITIAL_WINDOW_SIZE, and a WINDOW_UPDATE for the connection: 2^31 - 1, the most there is.
    stream.write_all(&frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff])).await.unwrap();
    stream.write_all(&frame(8, 0, 0, &(0x7fff_ffff_u32 - 65_535).to_be_bytes())).await.unwrap();
    stream
}

/// Calls of `StreamBlob` with this message.
fn calls(numbers: Range<u32>, message: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/rex.registry.v1.RegistryService/StreamBlob"),
        (":authority", "rexd.test"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // A literal without indexing (RFC 7541, section 6.2.2).
        head.extend([0, u8::try_from(name.len()).unwrap()]);
        head.extend(name.bytes());
        head.push(u8::try_from(value.len()).unwrap());
        head.extend(value.bytes());
    }
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = [&[0], &length[..], message].concat();
    let call = |number| [frame(1, 4, 2 * number + 1, &head), frame(0, 1, 2 * number + 1, &body)].concat();
    numbers.flat_map(call).collect()
}

#[tokio::test]
async fn small_blobs_that_wait_for_the_socket_count_until_they_are_sent() {
    let setting = Setting::new(Duration::from_secs(600)).await;
    let unread = setting.fill_memory().await;
    drop(unread);
    setting.wait_for_memory().await;
}

#[tokio::test]
async fn a_connection_whose_peer_reads_nothing_is_closed() {
    let setting = Setting::new(Duration::from_secs(4)).await;
    let _unread = setting.fill_memory().await;
    setting.wait_for_memory().await;
}
