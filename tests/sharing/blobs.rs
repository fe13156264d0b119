//! Blobs are read at the caller's pace, so they have permits of their own.

use std::{sync::Arc, time::Duration};

use rexd::{
    demo::{APP, DemoRegistry},
    grpc::proto::{StreamBlobRequest, StreamBlobResponse, stream_blob_response::Frame},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tonic::{Request, Status, Streaming};

use crate::{
    PATIENCE, REGISTRY, assert_overloaded, list_tags,
    support::{
        self,
        service::{Options, Service, settings, with_http},
    },
};

async fn service(registry: &DemoRegistry, requests: usize, blobs: usize) -> Service {
    let settings = with_http(settings(REGISTRY, registry.address()), |http| {
        http.max_concurrent_requests = requests;
        http.max_concurrent_blobs = blobs;
    });
    Service::start(vec![settings], Options::default()).await
}

/// Opens a stream of the sample's large blob on a connection of its own, and reads its header.
async fn open(service: &Service, timeout: Duration) -> Result<Streaming<StreamBlobResponse>, Status> {
    let sample = support::sample();
    let blobs = sample.repository(APP).unwrap().blobs();
    let (digest, _) = blobs.max_by_key(|(_, blob)| blob.len()).unwrap();
    let mut request = Request::new(StreamBlobRequest {
        registry: REGISTRY.to_owned(),
        repository: APP.to_owned(),
        digest: digest.to_string(),
        ..StreamBlobRequest::default()
    });
    request.set_timeout(timeout);
    let mut stream = service.client().await.stream_blob(request).await?.into_inner();
    let first = stream.message().await?.unwrap();
    assert!(matches!(first.frame, Some(Frame::Header(_))), "{first:?}");
    Ok(stream)
}

/// Reads the rest of a stream, which must end with a trailer. If `fast` is given, reads at 1 MiB/s until it is true.
async fn read(mut stream: Streaming<StreamBlobResponse>, fast: Option<watch::Receiver<bool>>) {
    let mut last = None;
    while let Some(message) = stream.message().await.unwrap() {
        last = message.frame;
        if fast.as_ref().is_some_and(|fast| !*fast.borrow()) {
            // A message has 64 KiB.
            sleep(Duration::from_micros(62_500)).await;
        }
    }
    assert!(matches!(last, Some(Frame::Trailer(_))), "the stream ended without a trailer");
}

#[tokio::test]
async fn slow_readers_of_blobs_do_not_delay_lists_of_the_same_registry() {
    let registry = support::demo_registry().await;
    let service = Arc::new(service(&registry, 16, 100).await);
    let (opened, mut openings) = mpsc::unbounded_channel();
    let (listed, _) = watch::channel(false);
    let mut readers = JoinSet::new();
    for _ in 0..24 {
        let (service, opened, listed) = (Arc::clone(&service), opened.clone(), listed.subscribe());
        readers.spawn(async move {
            let stream = open(&service, PATIENCE).await.unwrap();
            opened.send(()).unwrap();
            read(stream, Some(listed)).await;
        });
    }
    for _ in 0..16 {
        openings.recv().await.unwrap();
    }
    let client = service.client().await;
    for _ in 0..40 {
        list_tags(&client, "", APP, Duration::from_secs(2)).await.unwrap();
    }
    listed.send(true).unwrap();
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
}

#[tokio::test]
async fn concurrent_blob_reads_are_limited_and_a_finished_one_releases_its_permit() {
    let registry = support::demo_registry().await;
    let service = service(&registry, 16, 2).await;
    let (first, second) = (open(&service, PATIENCE).await.unwrap(), open(&service, PATIENCE).await.unwrap());
    let refused = open(&service, Duration::from_secs(2)).await.unwrap_err();
    assert_overloaded(refused, "max_concurrent_blobs");
    read(first, None).await;
    let third = open(&service, PATIENCE).await.unwrap();
    drop(second);
    read(third, None).await;
}
