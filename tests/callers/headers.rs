//! Callers are identified by the headers of a request, before its message.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use prost::Message as _;
use rexd::{callers::Identity, grpc::proto};
use tokio::{
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tonic::{Code, Status};

use crate::{
    REGISTRY, Setting, caller,
    support::{calls::Files, service::Options, status::Failure},
};

const PATIENCE: Duration = Duration::from_secs(10);
const TOKEN: &str = "build-token-0123456789";
const KNOWN: &str = "Bearer build-token-0123456789";
const UNKNOWN: &str = "Bearer other-token-0123456789";

async fn setting(files: &Files) -> Setting {
    Setting::new([caller("build", &["*"], known(files))]).await
}

fn known(files: &Files) -> Identity {
    Identity::TokenFile(files.write("build", TOKEN))
}

/// An HTTP/2 connection to the service.
struct Connection {
    send: SendRequest<Bytes>,
    ended: JoinHandle<Result<(), h2::Error>>,
}

impl Connection {
    async fn open(setting: &Setting) -> Self {
        let io = TcpStream::connect(setting.service.address).await.unwrap();
        let (send, connection) = h2::client::handshake(io).await.unwrap();
        Self { send, ended: tokio::spawn(connection) }
    }

    /// Sends the headers of a call, and its message if there is one.
    async fn begin(
        &self,
        path: &str,
        authorization: &str,
        message: Option<&[u8]>,
    ) -> Result<(ResponseFuture, h2::SendStream<Bytes>), h2::Error> {
        let request = Request::post(format!("http://rexd.test{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", authorization);
        let mut send = self.send.clone().ready().await?;
        let (response, mut body) = send.send_request(request.body(()).unwrap(), false)?;
        if let Some(message) = message {
            let framed = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()][..], message].concat();
            body.send_data(framed.into(), true)?;
        }
        Ok((response, body))
    }

    /// The code of a Ping with its message.
    async fn ping(&self, authorization: &str) -> Result<Code, h2::Error> {
        let message = proto::PingRequest { registry: REGISTRY.to_owned() }.encode_to_vec();
        let (response, _) = self.begin(PING, authorization, Some(&message)).await?;
        let (parts, mut body) = response.await?.into_parts();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data?.len())?;
        }
        let trailers = body.trailers().await?;
        Ok(code(trailers.as_ref().unwrap_or(&parts.headers)))
    }
}

const PING: &str = "/rex.registry.v1.RegistryService/Ping";

fn code(headers: &http::HeaderMap) -> Code {
    headers["grpc-status"].to_str().unwrap().parse::<i32>().unwrap().into()
}

#[tokio::test]
async fn an_unknown_caller_is_refused_before_its_message() {
    let files = Files::new();
    let setting = setting(&files).await;
    let connection = Connection::open(&setting).await;
    for method in ["Ping", "ListCatalog", "ListTags", "GetManifest", "StreamBlob", "NoMethod"] {
        let path = format!("/rex.registry.v1.RegistryService/{method}");
        let (response, mut body) = connection.begin(&path, UNKNOWN, None).await.unwrap();
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(code(response.headers()), Code::Unauthenticated, "{method}");
        assert!(response.headers().contains_key("grpc-status-details-bin"), "{method}");
        assert!(response.body().is_end_stream(), "{method}");
        let reset = timeout(PATIENCE, std::future::poll_fn(|context| body.poll_reset(context)));
        assert_eq!(reset.await.unwrap().unwrap(), h2::Reason::NO_ERROR, "{method}");
    }
}

#[tokio::test]
async fn a_known_caller_gets_its_response_after_its_message() {
    let files = Files::new();
    let setting = setting(&files).await;
    let connection = Connection::open(&setting).await;
    let (mut response, mut body) = connection.begin(PING, KNOWN, None).await.unwrap();
    assert_eq!(connection.ping(KNOWN).await.unwrap(), Code::Ok);
    assert!(timeout(Duration::ZERO, &mut response).await.is_err(), "a response without a request");
    let message = proto::PingRequest { registry: REGISTRY.to_owned() }.encode_to_vec();
    body.send_data([&[0, 0, 0, 0, message.len() as u8][..], &message].concat().into(), true).unwrap();
    assert_eq!(timeout(PATIENCE, response).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_known_caller_must_send_its_message_in_time() {
    let files = Files::new();
    let mut options = Options::default();
    options.server.request_timeout = Duration::from_millis(300);
    let setting = Setting::with([caller("build", &["*"], known(&files))], options).await;
    let connection = Connection::open(&setting).await;
    for method in ["Ping", "ListCatalog", "ListTags", "GetManifest", "StreamBlob"] {
        let path = format!("/rex.registry.v1.RegistryService/{method}");
        let (response, mut body) = connection.begin(&path, KNOWN, None).await.unwrap();
        body.send_data(Bytes::from_static(&[0, 0, 0, 0, 9, 10]), false).unwrap();
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        Failure::expect(status, Code::Unavailable, "REQUEST_TIMEOUT", method);
        let reset = timeout(PATIENCE, std::future::poll_fn(|context| body.poll_reset(context)));
        assert_eq!(reset.await.unwrap().unwrap(), h2::Reason::NO_ERROR, "{method}");
    }
    assert_eq!(connection.ping(KNOWN).await.unwrap(), Code::Ok);
}

#[tokio::test]
async fn a_connection_is_closed_after_16_unknown_callers_in_a_row() {
    let files = Files::new();
    let setting = setting(&files).await;
    let connection = Connection::open(&setting).await;
    for _ in 0..4 {
        for _ in 0..15 {
            assert_eq!(connection.ping(UNKNOWN).await.unwrap(), Code::Unauthenticated);
        }
        assert_eq!(connection.ping(KNOWN).await.unwrap(), Code::Ok);
    }
    let begun = Instant::now();
    // GOAWAY takes a round trip, in which more requests may be refused.
    let mut refused = 0;
    while let Ok(outcome) = connection.ping(UNKNOWN).await {
        assert_eq!(outcome, Code::Unauthenticated);
        assert!(begun.elapsed() < PATIENCE, "the connection is still open after {refused} refusals");
        refused += 1;
    }
    assert!(refused >= 16, "{refused}");
    drop(connection.send);
    timeout(PATIENCE, connection.ended).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn health_checks_of_unknown_callers_do_not_close_a_connection() {
    let files = Files::new();
    let setting = setting(&files).await;
    let connection = Connection::open(&setting).await;
    for _ in 0..40 {
        let (response, _) =
            connection.begin("/grpc.health.v1.Health/Check", UNKNOWN, Some(&[])).await.unwrap();
        assert!(!response.await.unwrap().headers().contains_key("grpc-status"));
    }
    assert_eq!(connection.ping(KNOWN).await.unwrap(), Code::Ok);
}
