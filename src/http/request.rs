//! A request to one registry, before it is signed in.

use http::{HeaderMap, Method};
use secrecy::SecretString;
use tokio::time::Instant;
use url::Url;

use crate::error::At;

/// Which HTTP version a request may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1: the request has a connection to itself until its body ends.
    Http1,
    /// The version that ALPN negotiates.
    Any,
}

/// A request to one registry.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Headers besides those that signing in adds.
    pub(crate) headers: HeaderMap,
    pub(crate) protocol: Protocol,
    /// The caller's deadline. The service does not begin a wait that would pass it.
    pub(crate) deadline: Option<Instant>,
    /// Registry and repository, for errors.
    pub(crate) at: At,
}

/// A request to a token service. It may carry credentials, so no redirect of it is followed.
#[derive(Debug)]
pub(crate) struct TokenRequest {
    pub(crate) url: Url,
    /// Headers, `Authorization` included.
    pub(crate) headers: HeaderMap,
    /// The form of a POST; without one, the request is a GET.
    pub(crate) form: Option<SecretString>,
    /// Registry and repository, for errors.
    pub(crate) at: At,
}
