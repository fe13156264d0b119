//! An OTLP collector that accepts every export, and keeps those of spans and of metrics apart.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};

/// `opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest`, with the fields that the tests read.
#[derive(Clone, PartialEq, prost::Message)]
struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(crate) name: String,
}

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    exports: Arc<Mutex<Exports>>,
}

/// The export requests, each with its gRPC prefix.
#[derive(Default)]
struct Exports {
    spans: Vec<Vec<u8>>,
    metrics: Vec<Vec<u8>>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, exports) = (listener.local_addr().unwrap(), Arc::<Mutex<Exports>>::default());
        let kept = Arc::clone(&exports);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(collect(socket, Arc::clone(&kept)));
            }
        });
        Self { address, exports }
    }

    /// The exported spans, as bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.exports.lock().unwrap().spans.concat()
    }

    /// The exported metrics, as bytes.
    pub(crate) fn metrics(&self) -> Vec<u8> {
        self.exports.lock().unwrap().metrics.concat()
    }

    /// The spans that were exported.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let requests = self.exports.lock().unwrap().spans.clone();
        let requests = requests.iter().map(|message| {
            // gRPC's prefix: not compressed, and the length.
            let (prefix, message) = message.split_at(5);
            assert_eq!(prefix[0], 0, "the export is not compressed");
            ExportTraceServiceRequest::decode(message).unwrap()
        });
        let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|spans| spans.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

async fn collect(socket: TcpStream, kept: Arc<Mutex<Exports>>) {
    let mut connection = h2::server::handshake(socket).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let kept = Arc::clone(&kept);
        tokio::spawn(async move {
            let is_metrics = request.uri().path().contains("MetricsService");
            let (mut body, mut message) = (request.into_body(), Vec::new());
            while let Some(Ok(bytes)) = body.data().await {
                message.extend_from_slice(&bytes);
                let _ = body.flow_control().release_capacity(bytes.len());
            }
            let mut kept = kept.lock().unwrap();
            if is_metrics {
                kept.metrics.push(message)
            } else {
                kept.spans.push(message)
            }
            drop(kept);
            let head = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut stream = respond.send_response(head, false).unwrap();
            // An empty message: everything was accepted.
            stream.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
            let trailers =
                http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
            stream.send_trailers(trailers).unwrap();
        });
    }
}
