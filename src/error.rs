//! [`RexError`]: everything that can go wrong between a caller and a registry.
//!
//! A variant is a row of the API's error table, so that one function can map it to a status without guessing. Messages
//! are for callers: they say what failed, where, and what to do. They never hold a credential, a token, a query string
//! or a body of the registry's; causes are kept as sources, for the log.

use std::{error::Error, fmt, sync::Arc, time::Duration};

/// The domain of every `google.rpc.ErrorInfo` that the service sends.
pub const ERROR_DOMAIN: &str = "rexd.registry.v1";

/// A cause, kept for the log. Shared, because one failed sign-in is reported to every call that waited for it.
pub type Cause = Arc<dyn Error + Send + Sync + 'static>;

/// What a caller asked of a registry when it failed; becomes the metadata of `google.rpc.ErrorInfo`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct At {
    /// The registry's canonical name.
    pub registry: String,
    /// The repository, where the operation has one.
    pub repository: Option<String>,
    /// The status of the registry's answer, where one came.
    pub http_status: Option<u16>,
    /// The first `errors[].code` of the registry's answer (OCI Distribution Specification, "Error Codes").
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
    /// 401: it wants credentials, or other ones.
    Unauthenticated,
    /// 403: it knows who asks and says no.
    Denied,
}

/// What a registry does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// No such repository, or none that this sign-in may see.
    Repository,
    /// The repository has no such tag or manifest, or the index none for the platform.
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
    /// For a connection, TLS included.
    Connect,
    /// For the head of an answer.
    Headers,
    /// For the next bytes of a body.
    Body,
    /// For the whole of a body that is read into memory.
    WholeBody,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "no connection",
            Self::Headers => "no answer",
            Self::Body => "no further bytes of the body",
            Self::WholeBody => "no complete body",
        })
    }
}

/// Everything that can go wrong; the variants are the rows of the API's error table.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RexError {
    /// The request breaks the specification's grammar; nothing was sent to any registry.
    #[error("{field}: {problem}")]
    InvalidArgument {
        /// The field of the request.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },

    /// The service wants to know who calls, and the call does not show it.
    #[error("caller unknown: {problem}")]
    CallerUnknown {
        /// What was shown, and what to show.
        problem: String,
    },

    /// The caller is known, and was not granted the target.
    #[error("{at}: not allowed: {problem}")]
    CallerNotAllowed {
        /// Where.
        at: At,
        /// Who, and what the operator may change.
        problem: String,
    },

    /// Policy or the address guard refuses the target.
    #[error("{at}: not allowed: {problem}")]
    RegistryNotAllowed {
        /// Where.
        at: At,
        /// Which rule, and what the operator may change.
        problem: String,
    },

    /// Name resolution, connection, TLS, or a connection that broke.
    #[error("{at}: {problem}")]
    Network {
        /// Where.
        at: At,
        /// Which step failed.
        problem: String,
        /// The cause, without any URL.
        #[source]
        cause: Option<Cause>,
    },

    /// One of the service's own time limits ran out.
    #[error("{at}: {wait} within {limit:?}")]
    Timeout {
        /// Where.
        at: At,
        /// What was waited for.
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

    /// The registry has no such thing.
    #[error("{at}: {missing} {name} not found")]
    NotFound {
        /// Where.
        at: At,
        /// What kind of thing.
        missing: Missing,
        /// Its name: a reference, a digest, or the repository.
        name: String,
    },

    /// The registry answered 429.
    #[error("{at}: the registry limits the rate of requests{}", wait_hint(.retry_after))]
    RateLimit {
        /// Where.
        at: At,
        /// What `Retry-After` said.
        retry_after: Option<Duration>,
    },

    /// The registry answered 5xx.
    #[error("{at}: the registry failed with status {}", .at.http_status.unwrap_or_default())]
    Server {
        /// Where.
        at: At,
        /// What `Retry-After` said.
        retry_after: Option<Duration>,
    },

    /// The registry does not offer the operation.
    #[error("{at}: not supported: {problem}")]
    Unsupported {
        /// Where.
        at: At,
        /// What is not offered.
        problem: String,
    },

    /// A read begins past the end of the blob.
    #[error("{at}: offset {offset} is past the end of the blob{}", size_hint(.size))]
    Range {
        /// Where.
        at: At,
        /// The offset asked for, in bytes.
        offset: u64,
        /// The blob's size in bytes, where the registry told it.
        size: Option<u64>,
    },

    /// The registry's answer is malformed.
    #[error("{at}: invalid answer: {problem}")]
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
        /// What was expected and what came.
        problem: String,
    },

    /// An answer is larger than its limit.
    #[error("{at}: the {what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// Where.
        at: At,
        /// Which answer: "manifest", "list page", …
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
    /// Where it happened; `None` for errors that never got as far as a registry.
    #[must_use]
    pub fn at(&self) -> Option<&At> {
        match self {
            Self::InvalidArgument { .. } | Self::CallerUnknown { .. } | Self::Overloaded { .. } => None,
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
