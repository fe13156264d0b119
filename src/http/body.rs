//! The body of a response, as a stream under the idle limit.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use super::{failure, permits::Permit};
use crate::error::{At, RexError, Wait};

/// A body that is being received.
#[derive(Debug)]
pub(crate) struct Body {
    response: reqwest::Response,
    at: At,
    connect_limit: Duration,
    idle_limit: Duration,
    idle: Pin<Box<Sleep>>,
    _permit: Option<Permit>,
}

impl Body {
    pub(super) fn new(
        response: reqwest::Response,
        at: At,
        connect_limit: Duration,
        idle_limit: Duration,
        permit: Option<Permit>,
    ) -> Self {
        let idle = Box::pin(tokio::time::sleep(idle_limit));
        Self { response, at, connect_limit, idle_limit, idle, _permit: permit }
    }

    /// The next bytes; `None` at the end. It is an error when none arrive within the idle limit.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RexError> {
        // The limit is the registry's: the time that the caller takes between two reads does not count.
        self.idle.as_mut().reset(Instant::now() + self.idle_limit);
        tokio::select! {
            biased;
            chunk = self.response.chunk() => {
                chunk.map_err(|error| failure::of(error, self.at.clone(), self.connect_limit, self.idle_limit))
            }
            () = &mut self.idle => {
                Err(RexError::Timeout { at: self.at.clone(), wait: Wait::Body, limit: self.idle_limit })
            }
        }
    }
}
