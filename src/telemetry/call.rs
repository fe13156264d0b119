//! One call: its span, its request id, and the line that is logged at its end.
//!
//! A call ends when its response was made, or when its stream has sent its last message. A call that is dropped before has
//! been cancelled by its caller, or was reset because its caller does not read.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use opentelemetry::{global, trace::TraceContextExt as _};
use tonic::{
    Code, Response, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::StatusExt as _;
use tracing::{Instrument as _, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{carrier::Carrier, request_id};
use crate::{
    client::RequestCount,
    metrics::{self, RunningCall},
    oci::{Registry, Repository},
};

/// The metadata key of a request id, of requests and of responses.
const REQUEST_ID: &str = "x-request-id";

/// A call that has no response after this time is logged while it runs, unless the configuration says otherwise.
const SLOW_CALL: Duration = Duration::from_secs(10);

static CONFIGURED_SLOW_CALL: OnceLock<Duration> = OnceLock::new();

/// Sets the time after which a call counts as slow, once for the process.
pub(super) fn set_slow_call(time: Duration) {
    // The first value stays: there is one log.
    let _ = CONFIGURED_SLOW_CALL.set(time);
}

/// A call. Its clones are the same call.
#[derive(Debug, Clone)]
pub struct CallRecord(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    method: &'static str,
    span: Span,
    began: Instant,
    request_id: MetadataValue<tonic::metadata::Ascii>,
    peer: Option<IpAddr>,
    subject: Mutex<Subject>,
    first_byte: OnceLock<Duration>,
    bytes: AtomicU64,
    ended: AtomicBool,
    running: RunningCall,
}

/// What the call is about, as far as it is known.
#[derive(Debug, Default)]
struct Subject {
    caller: Option<String>,
    registry: Option<String>,
    repository: Option<String>,
    reference: Option<String>,
    cache: Option<&'static str>,
    requests: Option<RequestCount>,
    resumes: u32,
}

impl CallRecord {
    /// A call that begins now.
    #[must_use]
    pub fn begin(method: &'static str, metadata: &MetadataMap, peer: Option<IpAddr>) -> Self {
        let request_id = request_id::of(metadata.get(REQUEST_ID));
        let span = tracing::info_span!(
            "rpc",
            otel.kind = "server",
            rpc.system = "grpc",
            rpc.service = "rex.registry.v1.RegistryService",
            rpc.method = method,
            request_id = request_id.to_str().unwrap_or_default(),
            caller = field::Empty,
            code = field::Empty,
        );
        let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Carrier(metadata)));
        // Without an exporter there is no trace to be part of.
        let _ = span.set_parent(parent);
        Self(Arc::new(Inner {
            method,
            span,
            began: Instant::now(),
            request_id,
            peer,
            subject: Mutex::default(),
            first_byte: OnceLock::new(),
            bytes: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            running: RunningCall::begin(method),
        }))
    }

    /// Who calls.
    pub fn caller(&self, name: &str) {
        self.0.span.record("caller", name);
        self.subject().caller = Some(name.to_owned());
    }

    /// What is asked for.
    pub fn subject_is(&self, registry: &Registry, repository: Option<&Repository>, reference: Option<&str>) {
        let mut subject = self.subject();
        subject.registry = Some(registry.to_string());
        subject.repository = repository.map(ToString::to_string);
        subject.reference = reference.map(ToOwned::to_owned);
    }

    /// The requests that are sent for the call.
    pub fn requests(&self, requests: RequestCount) {
        self.subject().requests = Some(requests);
    }

    /// Where the response came from: the value of `rexd-cache`.
    pub fn cache(&self, source: &'static str) {
        self.subject().cache = Some(source);
    }

    /// How often the read of a blob was resumed.
    pub fn resumes(&self, count: u32) {
        self.subject().resumes = count;
    }

    /// Counts bytes of a response.
    pub fn sent(&self, bytes: usize) {
        self.0.first_byte.get_or_init(|| self.0.began.elapsed());
        self.0.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Runs a call that ends with its response.
    pub async fn unary<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Status> {
        let outcome = self.stream(call).await;
        if outcome.is_ok() {
            self.end_ok();
        }
        outcome
    }

    /// Runs a call up to its response, whose stream then ends the call.
    pub async fn stream<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Status> {
        let mut response = match self.run(call).instrument(self.0.span.clone()).await {
            Ok(response) => response,
            Err(status) => return Err(self.fail(status)),
        };
        response.metadata_mut().insert(REQUEST_ID, self.0.request_id.clone());
        Ok(response)
    }

    async fn run<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        tokio::select! {
            biased;
            outcome = &mut call => return outcome,
            () = tokio::time::sleep(*CONFIGURED_SLOW_CALL.get_or_init(|| SLOW_CALL)) => {}
        }
        self.0.warn_slow();
        call.await
    }

    /// The call's span.
    #[must_use]
    pub fn span(&self) -> &Span {
        &self.0.span
    }

    /// Ends the call: all of its response was made.
    pub fn end_ok(&self) {
        self.0.end(Code::Ok, None);
    }

    /// Ends the call with a status that also names its request id.
    #[must_use]
    pub fn fail(&self, status: Status) -> Status {
        self.0.end(status.code(), Some(&status));
        let mut details = status.get_error_details();
        details.set_request_info(self.0.request_id.to_str().unwrap_or_default(), "");
        let mut metadata = status.metadata().clone();
        metadata.insert(REQUEST_ID, self.0.request_id.clone());
        Status::with_error_details_and_metadata(status.code(), status.message(), details, metadata)
    }

    fn subject(&self) -> MutexGuard<'_, Subject> {
        self.0.subject.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn warn_slow(&self) {
        self.running.is_slow();
        let subject = self.subject.lock().unwrap_or_else(PoisonError::into_inner);
        tracing::warn!(
            method = self.method,
            caller = subject.caller,
            registry = subject.registry,
            repository = subject.repository,
            reference = subject.reference,
            upstream = subject.requests.as_ref().map(RequestCount::get),
            "a call takes long; it is still running"
        );
    }

    fn end(&self, code: Code, status: Option<&Status>) {
        if self.ended.swap(true, Relaxed) {
            return;
        }
        self.span.record("code", field::debug(code));
        let subject = self.subject.lock().unwrap_or_else(PoisonError::into_inner);
        let details = status.and_then(|status| status.get_details_error_info());
        let (duration, first_byte) = (self.began.elapsed(), self.first_byte.get().copied());
        self.running.end(metrics::End {
            registry: subject.registry.as_deref(),
            code: name_of(code),
            reason: details.as_ref().map(|info| &*info.reason),
            duration,
            first_byte,
            bytes: self.bytes.load(Relaxed),
            cache: subject.cache,
            resumes: subject.resumes,
        });
        let context = self.span.context();
        let trace = context.span().span_context().clone();
        macro_rules! line {
            ($level:expr, $message:literal) => {
                tracing::event!(
                    parent: &self.span,
                    $level,
                    method = self.method,
                    caller = subject.caller,
                    peer = self.peer.map(field::display),
                    registry = subject.registry,
                    repository = subject.repository,
                    reference = subject.reference,
                    ?code,
                    reason = details.as_ref().map(|info| &*info.reason),
                    error = status.map(Status::message),
                    milliseconds = milliseconds(duration),
                    first_byte_ms = first_byte.map(milliseconds),
                    bytes = self.bytes.load(Relaxed),
                    upstream = subject.requests.as_ref().map(RequestCount::get),
                    resumes = (subject.resumes > 0).then_some(subject.resumes),
                    cache = subject.cache,
                    trace_id = trace.is_valid().then(|| field::display(trace.trace_id())),
                    $message
                )
            };
        }
        match code {
            Code::Ok => line!(tracing::Level::INFO, "responded"),
            _ if is_service_failure(code) => line!(tracing::Level::WARN, "call failed"),
            _ => line!(tracing::Level::INFO, "call failed"),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !*self.ended.get_mut() {
            self.end(Code::Cancelled, None);
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether the service or its registry failed, rather than the caller: these codes are logged as warnings.
fn is_service_failure(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Internal | Code::DataLoss | Code::Unknown)
}

/// The name of a code as the gRPC specification has it.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
