//! Blobs that arrive more slowly than the least rate, though each byte arrives within the idle limit.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rexd::grpc::proto::{StreamBlobRequest, stream_blob_response::Frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::{
    REGISTRY, sha256,
    support::{
        listen,
        service::{Options, Service, settings, with_http},
        status::Failure,
    },
};

const BLOB: [u8; 5000] = [b'x'; 5000];

/// The idle limit, which is also the time over which the least rate is measured.
const WINDOW: Duration = Duration::from_secs(1);

/// A registry that serves ranges of the blob. The first `slow` responses trickle: a byte every 20 ms.
async fn registry(slow: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = listen().await;
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap_or_default();
                let request = String::from_utf8_lossy(&request[..length]).to_ascii_lowercase();
                let range = request.split_once("range: bytes=").map(|(_, range)| range);
                let first: usize =
                    range.and_then(|range| range.split('-').next()?.parse().ok()).unwrap_or_default();
                let (size, last, rest) = (BLOB.len(), BLOB.len() - 1, &BLOB[first..]);
                let head = format!(
                    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{size}\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n",
                    rest.len()
                );
                let mut sent = stream.write_all(head.as_bytes()).await;
                if counted.fetch_add(1, SeqCst) >= slow {
                    let _ = stream.write_all(rest).await;
                    return;
                }
                for byte in rest {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    if sent.is_err() {
                        return;
                    }
                    sent = stream.write_all(&[*byte]).await;
                }
            });
        }
    });
    (address, requests)
}

/// The bytes of the blob, and the status that ended its stream if it was not OK.
async fn read(address: SocketAddr) -> (Vec<u8>, Option<tonic::Status>) {
    let slow = with_http(settings(REGISTRY, address), |http| http.idle_timeout = WINDOW);
    let service = Service::start(vec![slow], Options::default()).await;
    let request = StreamBlobRequest {
        repository: "org/app".to_owned(),
        digest: sha256(&BLOB),
        offset: 1,
        ..StreamBlobRequest::default()
    };
    let mut stream = service.client().await.stream_blob(request).await.unwrap().into_inner();
    let mut received = Vec::new();
    while let Some(message) = stream.next().await {
        match message {
            Ok(message) => {
                if let Some(Frame::Chunk(chunk)) = message.frame {
                    received.extend_from_slice(&chunk.data);
                }
            }
            Err(status) => return (received, Some(status)),
        }
    }
    (received, None)
}

#[tokio::test]
async fn a_blob_that_trickles_is_requested_again_and_arrives() {
    let (address, requests) = registry(1).await;
    let (received, status) = read(address).await;
    assert!(status.is_none(), "{status:?}");
    assert!(received == BLOB[1..], "{} bytes", received.len());
    assert_eq!(requests.load(SeqCst), 2);
}

#[tokio::test]
async fn a_registry_whose_blobs_always_trickle_fails_though_each_response_brings_some_bytes() {
    let (address, requests) = registry(usize::MAX).await;
    let (received, status) = read(address).await;
    let failure = Failure::expect(status.unwrap(), Code::Unavailable, "REGISTRY_TIMEOUT", "trickling");
    assert!(failure.status.message().contains("fewer than 1024 bytes a second"), "{failure:?}");
    assert_eq!(requests.load(SeqCst), 4);
    assert!(!received.is_empty() && received.len() < BLOB.len() - 1);
}
