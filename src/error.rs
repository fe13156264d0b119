//! [`RexError`]: everything that can go wrong between a caller and a registry.
//!
//! Each variant is a row of the API's error table, so one function can map every error to a status. Messages are for
//! callers: they say what failed, where, and what to do. They never contain a credential, a token, a query string or a
//! response body. Causes are kept as sources for the log.

use std::{error::Error, fmt, sync::Arc, time::Duration};

/// The domain of every `google.rpc.ErrorInfo` that the service sends.
pub const ERROR_DOMAIN: &str = "rexd.registry.v1";

/// A cause, kept for the log. It is shared because one failed sign-in is reported to every call that waited for it.
pub type Cause = Arc<dyn Error + Send + Sync + 'static>;

/// Where an error happened. Becomes the metadata of `google.rpc.ErrorInfo`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct At {
    /// The registry's canonical name.
    pub registry: String,
    /// The repository, if the operation has one.
    pub repository: Option<String>,
    /// The HTTP status of the registry's response, if there was one.
    pub http_status: Option<u16>,
    /// The first `errors[].code` of the registry's response (OCI Distribution Specification, "Error Codes").
    pub oci_code: Option<String>,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.registry)?;
        match &self.repository {
            Some(repository) => write!(f, "/{repository}"),
            None => Ok(()),
        }
    }
}

/// How a registry refused a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 401: the registry requires credentials, or does not accept those that were sent.
    Unauthenticated,
    /// 403: the registry accepts the credentials and denies access.
    Denied,
}

/// What was not found in a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The repository does not exist, or these credentials may not see it.
    Repository,
    /// The repository has no such tag or manifest, or the index has no manifest for the platform.
    Manifest,
    /// The repository has no such blob.
    Blob,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repository => "repository",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
        })
    }
}

/// Which of the service's own time limits ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The time to look up the addresses of a host.
    Lookup,
    /// The time to connect, name lookup and TLS handshake included.
    Connect,
    /// The time to the head of a response.
    Headers,
    /// The time to the next bytes of a body.
    Body,
    /// The time to read a whole body into memory.
    WholeBody,
    /// The time over which a blob must come at the least rate.
    LeastRate,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lookup => "no response to the name lookup",
            Self::Connect => "no connection",
            Self::Headers => "no response",
            Self::Body => "no further bytes of the body",
            Self::WholeBody => "no complete body",
            Self::LeastRate => "fewer than 1024 bytes a second of the body",
        })
    }
}

/// Which of its own limits a caller has reached. The text is the configuration's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerLimit {
    /// The calls at once.
    MaxCalls,
    /// The StreamBlob calls at once.
    MaxStreams,
    /// The calls that may begin each second.
    RequestsPerSecond,
}

impl fmt::Display for CallerLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MaxCalls => "max_calls",
            Self::MaxStreams => "max_streams",
            Self::RequestsPerSecond => "requests_per_second",
        })
    }
}

/// Everything that can go wrong; the variants are the rows of the API's error table.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RexError {
    /// The request breaks the specification's grammar. Nothing was sent to any registry.
    #[error("{field}: {problem}")]
    InvalidArgument {
        /// The field of the request.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },

    /// The service requires callers to identify themselves, and the call has no valid credential.
    #[error("unknown caller: {problem}")]
    CallerUnknown {
        /// What the call presented, and what it must present.
        problem: String,
    },

    /// The caller is identified, but has no grant for the target.
    #[error("{at}: not allowed: {problem}")]
    CallerNotAllowed {
        /// Where.
        at: At,
        /// The caller, and what the operator can change.
        problem: String,
    },

    /// The caller has reached one of its own limits.
    #[error("the caller {caller:?} has reached its limit: {limit} is {value}{}", wait_hint(&Some(*.retry_after)))]
    CallerLimited {
        /// The name of the caller.
        caller: String,
        /// The limit.
        limit: CallerLimit,
        /// Its value.
        value: u64,
        /// When to try again.
        retry_after: Duration,
    },

    /// The policy or the egress guard refuses the target.
    #[error("{at}: not allowed: {problem}")]
    RegistryNotAllowed {
        /// Where.
        at: At,
        /// The rule, and what the operator can change.
        problem: String,
    },

    /// Name resolution, connecting or TLS failed, or a connection broke.
    #[error("{at}: {problem}")]
    Network {
        /// Where.
        at: At,
        /// Which step failed.
        problem: String,
        /// The cause, without a URL.
        #[source]
        cause: Option<Cause>,
    },

    /// One of the service's own time limits ran out.
    #[error("{at}: {wait} within {limit:?}")]
    Timeout {
        /// Where.
        at: At,
        /// What did not happen in time.
        wait: Wait,
        /// The limit.
        limit: Duration,
    },

    /// The registry, or its token service, refused the sign-in.
    #[error("{at}: {problem}")]
    Authentication {
        /// Where.
        at: At,
        /// 401 or 403.
        refusal: Refusal,
        /// What was refused, and what to change.
        problem: String,
    },

    /// The registry does not have the repository, manifest or blob.
    #[error("{at}: {missing} {name} not found")]
    NotFound {
        /// Where.
        at: At,
        /// Its kind.
        missing: Missing,
        /// Its name: a reference, a digest, or the repository.
        name: String,
    },

    /// The registry responded with 429.
    #[error("{at}: the registry limits the rate of requests{}", wait_hint(.retry_after))]
    RateLimit {
        /// Where.
        at: At,
        /// The delay in `Retry-After`.
        retry_after: Option<Duration>,
    },

    /// The registry responded with 5xx.
    #[error("{at}: the registry failed with status {}", .at.http_status.unwrap_or_default())]
    Server {
        /// Where.
        at: At,
        /// The delay in `Retry-After`.
        retry_after: Option<Duration>,
    },

    /// The registry does not offer the operation.
    #[error("{at}: not supported: {problem}")]
    Unsupported {
        /// Where.
        at: At,
        /// What the registry does not offer.
        problem: String,
    },

    /// The requested offset is past the end of the blob.
    #[error("{at}: offset {offset} is past the end of the blob{}", size_hint(.size))]
    Range {
        /// Where.
        at: At,
        /// The requested offset in bytes.
        offset: u64,
        /// The blob's size in bytes, if the registry sent it.
        size: Option<u64>,
    },

    /// The registry's response is malformed.
    #[error("{at}: invalid response: {problem}")]
    Validation {
        /// Where.
        at: At,
        /// What is wrong with it.
        problem: String,
    },

    /// Content does not match its digest or size.
    #[error("{at}: corrupt content: {problem}")]
    Integrity {
        /// Where.
        at: At,
        /// What was expected, and what was received.
        problem: String,
    },

    /// A response is larger than its limit.
    #[error("{at}: the {what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// Where.
        at: At,
        /// The kind of response: "manifest", "list page", …
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },

    /// One of the service's own limits on load is reached.
    #[error("the service is at its limit: {problem}")]
    Overloaded {
        /// Which limit.
        problem: String,
        /// When to try again.
        retry_after: Duration,
    },
}

impl RexError {
    /// Where the error happened. `None` for errors that concern no registry.
    #[must_use]
    pub fn at(&self) -> Option<&At> {
        match self {
            Self::InvalidArgument { .. }
            | Self::CallerUnknown { .. }
            | Self::CallerLimited { .. }
            | Self::Overloaded { .. } => None,
            Self::CallerNotAllowed { at, .. }
            | Self::RegistryNotAllowed { at, .. }
            | Self::Network { at, .. }
            | Self::Timeout { at, .. }
            | Self::Authentication { at, .. }
            | Self::NotFound { at, .. }
            | Self::RateLimit { at, .. }
            | Self::Server { at, .. }
            | Self::Unsupported { at, .. }
            | Self::Range { at, .. }
            | Self::Validation { at, .. }
            | Self::Integrity { at, .. }
            | Self::TooLarge { at, .. } => Some(at),
        }
    }

    /// An [`InvalidArgument`](Self::InvalidArgument) that names the field.
    pub fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::InvalidArgument { field, problem: problem.into() }
    }
}

fn wait_hint(retry_after: &Option<Duration>) -> String {
    retry_after.map(|wait| format!("; retry after {} s", wait.as_secs_f64().ceil())).unwrap_or_default()
}

fn size_hint(size: &Option<u64>) -> String {
    size.map(|size| format!(" of {size} bytes")).unwrap_or_default()
}
