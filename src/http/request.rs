//! A request to one registry, before it is signed in.

use http::{HeaderMap, Method};
use secrecy::SecretString;
use url::Url;

use super::call::CallContext;
use crate::error::At;

/// Which HTTP version a request may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1: the request has a connection to itself until its body ends.
    Http1,
    /// The version that ALPN negotiates.
    Any,
}

/// Which of a registry's bounds a request counts against, until its response is read or dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// `max_concurrent_requests`: the response is short, and is read at once.
    Requests,
    /// `max_concurrent_blobs`: the response is read at the caller's pace.
    Blobs,
    /// Neither: the sender keeps a bound of its own.
    None,
}

/// A request to one registry.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Headers besides those that signing in adds.
    pub(crate) headers: HeaderMap,
    pub(crate) protocol: Protocol,
    pub(crate) bound: Bound,
    /// Whether calls wait for the response that the request's call does not know of, so that its deadline is not theirs.
    pub(crate) shared: bool,
    /// The call that the request belongs to.
    pub(crate) call: &'a CallContext,
    /// Registry and repository, for errors.
    pub(crate) at: At,
}

/// A request to a token service. It may carry credentials, so no redirect of it is followed.
#[derive(Debug)]
pub(crate) struct TokenRequest<'a> {
    pub(crate) url: Url,
    /// Headers, `Authorization` included.
    pub(crate) headers: HeaderMap,
    /// The form of a POST. Without a form, the request is a GET.
    pub(crate) form: Option<SecretString>,
    /// The call that wants the token.
    pub(crate) call: &'a CallContext,
    /// Registry and repository, for errors.
    pub(crate) at: At,
}
