//! Limits: how much a caller that is known may use. Each is reached and made room in again, and never touches another caller.

use std::{
    net::SocketAddr,
    num::NonZeroU64,
    pin::pin,
    time::{Duration, Instant},
};

use rexd::{
    callers::{Callers, Identity},
    demo::{APP, DemoRegistry},
    grpc::proto::{
        ListTagsRequest, ListTagsResponse, StreamBlobRequest, StreamBlobResponse,
        registry_service_client::RegistryServiceClient, stream_blob_response::Frame,
    },
    policy::{Caller, CallerLimits},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    PATIENCE, REGISTRY,
    gated::GatedRegistry,
    support::{
        self,
        call::Call,
        calls::Files,
        scripted::{Reply, ScriptedRegistry},
        service::{Options, Service, settings},
        status::Failure,
    },
};

const LIMITED: &str = "limited-token-0123456789";
const OTHER: &str = "other-token-0123456789";

/// A service with two callers that may read everything: one with limits, one without any.
struct LimitedService {
    service: Service,
    /// The tokens, for as long as the service may read them again.
    _files: Files,
}

impl LimitedService {
    async fn start(registry: SocketAddr, limits: CallerLimits, change: impl FnOnce(&mut Options)) -> Self {
        let files = Files::new();
        let caller = |name: &str, token: &str| {
            (Caller::new(name, vec!["*".parse().unwrap()]), Identity::TokenFile(files.write(name, token)))
        };
        let ((limited, proof), other) = (caller("limited", LIMITED), caller("other", OTHER));
        let callers = Callers::known([(limited.with_limits(limits), proof), other]).unwrap();
        let mut options = Options { callers, ..Options::default() };
        options.server.max_concurrent_streams = 2000;
        change(&mut options);
        Self { service: Service::start(vec![settings(REGISTRY, registry)], options).await, _files: files }
    }

    async fn client(&self) -> RegistryServiceClient<Channel> {
        self.service.client().await
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.service.address)).unwrap()
    }
}

fn limits(change: impl FnOnce(&mut CallerLimits)) -> CallerLimits {
    let mut limits = CallerLimits::default();
    change(&mut limits);
    limits
}

fn count(count: u64) -> Option<NonZeroU64> {
    Some(count.try_into().unwrap())
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

async fn make(call: &Call, client: &mut RegistryServiceClient<Channel>, token: &str) -> Result<(), Status> {
    call.outcome_as(client, &format!("Bearer {token}")).await
}

/// Begins to list tags; the registry keeps the call until the test completes it.
fn list_tags(
    client: &RegistryServiceClient<Channel>,
    repository: &str,
    token: &'static str,
) -> impl Future<Output = Result<(), Status>> + use<> {
    let (mut client, call) = (client.clone(), Call::tags(REGISTRY, repository));
    async move { make(&call, &mut client, token).await }
}

/// The status names the limit, its value and the caller, and says when to try again in both ways. Returns that time.
fn assert_limited(status: Status, limit: &str, value: u64) -> Duration {
    let failure = Failure::expect(status, Code::ResourceExhausted, "CALLER_LIMITED", limit);
    let metadata = |key: &str| failure.metadata.get(key).map(String::as_str);
    assert_eq!(metadata("caller"), Some("limited"));
    assert_eq!((metadata("limit"), metadata("limit_value")), (Some(limit), Some(&*value.to_string())));
    let pushback = failure.status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap();
    let retry_ms = u64::try_from(failure.retry_ms().unwrap()).unwrap();
    assert_eq!(pushback, retry_ms.to_string());
    assert!(failure.status.message().contains(&format!("{limit} is {value}")), "{:?}", failure.status);
    Duration::from_millis(retry_ms)
}

/// Makes calls until one is not over the limit. A cancelled call is noticed a moment later.
async fn soon(call: &Call, client: &mut RegistryServiceClient<Channel>) {
    let admitted = async {
        while let Err(status) = make(call, client, LIMITED).await {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, admitted).await.is_ok(), "the permit is not returned");
}

/// Reads this much of the sample's large blob, with chunks of 64 KiB.
fn blob(limit: i64) -> StreamBlobRequest {
    let sample = support::sample();
    let blobs = sample.repository(APP).unwrap().blobs();
    let (digest, _) = blobs.max_by_key(|(_, blob)| blob.len()).unwrap();
    StreamBlobRequest {
        registry: REGISTRY.to_owned(),
        repository: APP.to_owned(),
        digest: digest.to_string(),
        limit,
        ..StreamBlobRequest::default()
    }
}

/// Opens a stream, and reads its header.
async fn open(
    client: &RegistryServiceClient<Channel>,
    request: Request<StreamBlobRequest>,
) -> Result<Streaming<StreamBlobResponse>, Status> {
    let mut stream = client.clone().stream_blob(request).await?.into_inner();
    let first = stream.message().await?.unwrap();
    assert!(matches!(first.frame, Some(Frame::Header(_))), "{first:?}");
    Ok(stream)
}

/// Reads a stream to its trailer, and returns how many bytes came.
async fn read(mut stream: Streaming<StreamBlobResponse>) -> Result<usize, Status> {
    let (mut bytes, mut last) = (0, None);
    while let Some(message) = stream.message().await? {
        if let Some(Frame::Chunk(chunk)) = &message.frame {
            bytes += chunk.data.len();
        }
        last = message.frame;
    }
    assert!(matches!(last, Some(Frame::Trailer(_))), "the stream ended without a trailer");
    Ok(bytes)
}

async fn demo(limits: CallerLimits, change: impl FnOnce(&mut Options)) -> (DemoRegistry, LimitedService) {
    let registry = support::demo_registry().await;
    let service = LimitedService::start(registry.address(), limits, change).await;
    (registry, service)
}

#[tokio::test]
async fn over_max_calls_each_rpc_is_refused_and_another_callers_call_is_not() {
    let registry = GatedRegistry::start().await;
    let service =
        LimitedService::start(registry.address, limits(|limits| limits.max_calls = count(1)), |_| {}).await;
    // On another connection than the calls that are refused.
    let first = tokio::spawn(list_tags(&service.client().await, "org/app", LIMITED));
    registry.requests(1).await;
    let mut client = service.client().await;
    for call in Call::each(REGISTRY) {
        let refused = make(&call, &mut client, LIMITED).await.unwrap_err();
        assert_eq!(assert_limited(refused, "max_calls", 1), Duration::from_secs(1), "{call:?}");
    }
    let other = tokio::spawn(list_tags(&client, "org/app", OTHER));
    registry.requests(2).await;
    registry.complete(2);
    first.await.unwrap().unwrap();
    other.await.unwrap().unwrap();
    registry.complete(1);
    list_tags(&client, "org/app", LIMITED).await.unwrap();
    assert_eq!(registry.requests(3).await.len(), 3, "a refused call sends no request to the registry");
}

#[tokio::test]
async fn all_anonymous_calls_share_the_limits_of_the_anonymous_caller() {
    let (registry, files) = (GatedRegistry::start().await, Files::new());
    let everybody = Caller::new("limited", vec!["*".parse().unwrap()])
        .with_limits(limits(|limits| limits.max_calls = count(1)));
    let other = Caller::new("other", vec!["*".parse().unwrap()]);
    let token = Identity::TokenFile(files.write("other", OTHER));
    let callers = Callers::known([(everybody, Identity::Anonymous), (other, token)]).unwrap();
    let options = Options { callers, ..Options::default() };
    let service = Service::start(vec![settings(REGISTRY, registry.address)], options).await;
    let tags = Call::tags(REGISTRY, "org/app");
    let first = tokio::spawn({
        let (tags, mut client) = (tags.clone(), service.client().await);
        async move { tags.outcome(&mut client).await }
    });
    registry.requests(1).await;
    let refused = tags.outcome(&mut service.client().await).await.unwrap_err();
    assert_limited(refused, "max_calls", 1);
    registry.complete(2);
    list_tags(&service.client().await, "org/app", OTHER).await.unwrap();
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn of_a_thousand_calls_at_once_exactly_max_calls_run() {
    let registry = GatedRegistry::start().await;
    let service =
        LimitedService::start(registry.address, limits(|limits| limits.max_calls = count(10)), |_| {}).await;
    let client = service.client().await;
    let mut calls = JoinSet::new();
    for number in 0..1000 {
        // Each call is for another repository: identical ones would be one request.
        calls.spawn(list_tags(&client, &format!("org/app{number}"), LIMITED));
    }
    for _ in 0..990 {
        let refused = calls.join_next().await.unwrap().unwrap().unwrap_err();
        assert_limited(refused, "max_calls", 10);
    }
    assert_eq!(registry.requests(10).await.len(), 10);
    registry.complete(10);
    while let Some(outcome) = calls.join_next().await {
        outcome.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_caller_with_one_call_at_a_time_is_never_refused() {
    let (_registry, service) = demo(limits(|limits| limits.max_calls = count(1)), |_| {}).await;
    let mut client = service.client().await;
    for _ in 0..100 {
        make(&Call::ping(REGISTRY), &mut client, LIMITED).await.unwrap();
        let stream = open(&client, with_token(blob(100_000), LIMITED)).await.unwrap();
        assert_eq!(read(stream).await.unwrap(), 100_000);
        make(&Call::tags(REGISTRY, APP), &mut client, LIMITED).await.unwrap();
        make(&Call::manifest(REGISTRY, APP, "v1"), &mut client, LIMITED).await.unwrap();
    }
}

#[tokio::test]
async fn a_cancelled_call_returns_its_permit() {
    let registry = GatedRegistry::start().await;
    let service =
        LimitedService::start(registry.address, limits(|limits| limits.max_calls = count(1)), |_| {}).await;
    let mut client = service.client().await;
    let cancelled = tokio::spawn(list_tags(&client, "org/app", LIMITED));
    registry.requests(1).await;
    cancelled.abort();
    registry.complete(2);
    soon(&Call::tags(REGISTRY, "org/app"), &mut client).await;
}

#[tokio::test]
async fn a_call_past_its_deadline_returns_its_permit() {
    let registry = GatedRegistry::start().await;
    let service =
        LimitedService::start(registry.address, limits(|limits| limits.max_calls = count(1)), |_| {}).await;
    let mut client = service.client().await;
    let message = ListTagsRequest {
        registry: REGISTRY.to_owned(),
        repository: "org/app".to_owned(),
        ..ListTagsRequest::default()
    };
    let mut request = with_token(message, LIMITED);
    request.set_timeout(Duration::from_millis(300));
    client.list_tags(request).await.unwrap_err();
    registry.complete(2);
    soon(&Call::tags(REGISTRY, "org/app"), &mut client).await;
}

#[tokio::test]
async fn a_call_that_its_caller_may_not_make_uses_none_of_its_limits() {
    let (_registry, service) = demo(limits(|limits| limits.requests_per_second = count(1)), |_| {}).await;
    let mut client = service.client().await;
    for _ in 0..20 {
        let refused = make(&Call::ping("unlisted.test"), &mut client, LIMITED).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
        let refused = make(&Call::tags(REGISTRY, "NOT/A/NAME"), &mut client, LIMITED).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
    make(&Call::ping(REGISTRY), &mut client, LIMITED).await.unwrap();
}

#[tokio::test]
async fn a_response_that_is_not_read_counts_until_it_is_dropped() {
    let registry = ScriptedRegistry::start().await;
    // 130 KB: more than the caller's window.
    let tags: Vec<String> = (0..1000).map(|number| format!("{number:0>128}")).collect();
    registry.otherwise(move |_| Some(Reply::json(&serde_json::json!({ "tags": tags }))));
    let service =
        LimitedService::start(registry.address(), limits(|limits| limits.max_calls = count(1)), |_| {}).await;
    let channel = service.endpoint().initial_stream_window_size(32 * 1024).connect().await.unwrap();
    // As a stream of one message, so that the test decides when it is read.
    let mut unread = tonic::client::Grpc::new(channel);
    unread.ready().await.unwrap();
    let message = ListTagsRequest {
        registry: REGISTRY.to_owned(),
        repository: "org/app".to_owned(),
        page_size: 1000,
        ..ListTagsRequest::default()
    };
    let path = http::uri::PathAndQuery::from_static("/rex.registry.v1.RegistryService/ListTags");
    let codec = tonic_prost::ProstCodec::<_, ListTagsResponse>::default();
    let response = unread.server_streaming(with_token(message, LIMITED), path, codec).await.unwrap();
    let mut client = service.client().await;
    let tags = Call::tags(REGISTRY, "org/app");
    assert_limited(make(&tags, &mut client, LIMITED).await.unwrap_err(), "max_calls", 1);
    drop(response);
    soon(&tags, &mut client).await;
}

#[tokio::test]
async fn over_max_streams_a_stream_is_refused_and_no_other_call_is() {
    let (_registry, service) = demo(limits(|limits| limits.max_streams = count(2)), |_| {}).await;
    let mut client = service.client().await;
    let mine = || with_token(blob(0), LIMITED);
    let (first, second) = (open(&client, mine()).await.unwrap(), open(&client, mine()).await.unwrap());
    assert_limited(open(&client, mine()).await.unwrap_err(), "max_streams", 2);
    make(&Call::tags(REGISTRY, APP), &mut client, LIMITED).await.unwrap();
    let other = open(&client, with_token(blob(0), OTHER)).await.unwrap();
    // A finished stream makes room at once, a dropped one as soon as the service notices.
    read(first).await.unwrap();
    let third = open(&client, mine()).await.unwrap();
    assert_limited(open(&client, mine()).await.unwrap_err(), "max_streams", 2);
    drop(second);
    soon(&Call::Blob(blob(1)), &mut client).await;
    read(third).await.unwrap();
    read(other).await.unwrap();
}

#[tokio::test]
async fn a_stream_counts_as_a_call_to_its_end() {
    let (_registry, service) = demo(limits(|limits| limits.max_calls = count(1)), |_| {}).await;
    let mut client = service.client().await;
    let stream = open(&client, with_token(blob(0), LIMITED)).await.unwrap();
    let refused = make(&Call::ping(REGISTRY), &mut client, LIMITED).await.unwrap_err();
    assert_limited(refused, "max_calls", 1);
    read(stream).await.unwrap();
    make(&Call::ping(REGISTRY), &mut client, LIMITED).await.unwrap();
}

#[tokio::test]
async fn calls_over_the_rate_are_refused_until_a_token_is_there() {
    let (_registry, service) = demo(limits(|limits| limits.requests_per_second = count(2)), |_| {}).await;
    let mut client = service.client().await;
    let (ping, began) = (Call::ping(REGISTRY), Instant::now());
    let (mut admitted, mut wait) = (0, Duration::ZERO);
    for _ in 0..50 {
        match make(&ping, &mut client, LIMITED).await {
            Ok(()) => admitted += 1,
            Err(refused) => wait = assert_limited(refused, "requests_per_second", 2),
        }
        make(&ping, &mut client, OTHER).await.unwrap();
    }
    // The burst, and what came since. A slow machine admits more, and the next assertion needs one that was refused.
    let most = 2 + began.elapsed().as_millis() / 500;
    assert!((2..=most).contains(&admitted), "{admitted} of at most {most}");
    assert!(wait > Duration::ZERO && wait <= Duration::from_millis(500), "{wait:?}");
    sleep(wait).await;
    make(&ping, &mut client, LIMITED).await.unwrap();
}

#[tokio::test]
async fn health_and_reflection_have_no_limit() {
    let (_registry, service) = demo(
        limits(|limits| {
            limits.requests_per_second = count(1);
            limits.max_calls = count(1);
        }),
        |_| {},
    )
    .await;
    let client = service.client().await;
    let _stream = open(&client, with_token(blob(0), LIMITED)).await.unwrap();
    let channel = service.endpoint().connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(channel);
    for _ in 0..20 {
        health.check(with_token(HealthCheckRequest::default(), LIMITED)).await.unwrap();
        let requests = tokio_stream::once(tonic_reflection::pb::v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(
                tonic_reflection::pb::v1::server_reflection_request::MessageRequest::ListServices(
                    String::new(),
                ),
            ),
        });
        let mut responses =
            reflection.server_reflection_info(with_token(requests, LIMITED)).await.unwrap().into_inner();
        responses.message().await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn all_streams_of_a_caller_share_its_bytes_per_second() {
    const RATE: u32 = 512 * 1024;
    let (_registry, service) =
        demo(limits(|limits| limits.bytes_per_second = count(RATE.into())), |_| {}).await;
    let client = service.client().await;
    let began = Instant::now();
    let mut streams = JoinSet::new();
    for _ in 0..4 {
        let client = client.clone();
        streams.spawn(async move {
            let stream = open(&client, with_token(blob(RATE.into()), LIMITED)).await.unwrap();
            read(stream).await.unwrap()
        });
    }
    while let Some(bytes) = streams.join_next().await {
        assert_eq!(bytes.unwrap(), RATE as usize);
    }
    // The burst is one second's worth; the other three take a second each.
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(3), "four seconds' worth took {took:?}");
}

#[tokio::test]
async fn a_paced_caller_does_not_slow_down_another_one() {
    let (_registry, service) = demo(limits(|limits| limits.bytes_per_second = count(1024)), |_| {}).await;
    let client = service.client().await;
    let mut paced = open(&client, with_token(blob(0), LIMITED)).await.unwrap();
    let other = open(&client, with_token(blob(0), OTHER)).await.unwrap();
    assert!(read(other).await.unwrap() >= 8 << 20);
    // The paced stream still runs, and its chunks have a second's worth.
    let message = paced.message().await.unwrap().unwrap();
    assert!(matches!(message.frame, Some(Frame::Chunk(chunk)) if chunk.data.len() == 1024));
    let mut rest = pin!(read(paced));
    assert!(timeout(Duration::from_millis(10), &mut rest).await.is_err());
}

#[tokio::test]
async fn a_paced_stream_ends_at_its_deadline_and_makes_room() {
    let limits = limits(|limits| {
        limits.bytes_per_second = count(1024);
        limits.max_streams = count(1);
    });
    let (_registry, service) = demo(limits, |_| {}).await;
    let mut client = service.client().await;
    let mut request = with_token(blob(0), LIMITED);
    request.set_timeout(Duration::from_secs(2));
    let stream = open(&client, request).await.unwrap();
    let status = read(stream).await.unwrap_err();
    // The client's own timer may be first.
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    soon(&Call::Blob(blob(1)), &mut client).await;
}

#[tokio::test]
async fn a_stream_that_waits_for_its_rate_is_not_reset_as_one_that_nobody_reads() {
    const RATE: u32 = 64 * 1024;
    let limits = limits(|limits| limits.bytes_per_second = count(RATE.into()));
    let stall = |options: &mut Options| options.streams.write_stall = Duration::from_millis(800);
    let (_registry, service) = demo(limits, stall).await;
    let client = service.client().await;
    // The first chunk comes at once, each of the other three a second after the one before it.
    let stream = open(&client, with_token(blob(i64::from(RATE) * 4), LIMITED)).await.unwrap();
    assert_eq!(read(stream).await.unwrap(), RATE as usize * 4);
}
