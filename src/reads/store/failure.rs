//! Why an access to the store failed.

use std::{error::Error as StdError, io};

use object_store::{
    Error,
    client::{HttpError, HttpErrorKind},
};
use rustix::io::Errno;

use super::footer::Damage;

/// Why something could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Failure {
    /// It was read, and it is not what was written.
    #[error("{0}")]
    Damaged(#[from] Damage),
    /// The store did not do it. The text has no content of a response, whose errors quote requests.
    #[error("{0}")]
    Failed(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged(Damage("the object is too short")),
            io::ErrorKind::TimedOut => Self::Failed("it did not finish in time".to_owned()),
            // A sector that cannot be read concerns one blob.
            _ if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                Self::Damaged(Damage("the disk cannot read the object"))
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match describe(&error) {
            // An empty object has no last bytes: 416 Range Not Satisfiable.
            text if text.ends_with("416") => Self::Damaged(Damage("the object is too short")),
            text => Self::Failed(text),
        }
    }
}

/// What an error of a bucket means, without the URLs and the bodies of responses that its own text can hold.
fn describe(error: &Error) -> String {
    let text = match error {
        Error::NotFound { .. } => "there is no such bucket or object",
        Error::PermissionDenied { .. } => "the credentials do not permit it (403), or they are not valid",
        Error::Unauthenticated { .. } => "the credentials are missing or not valid (401)",
        Error::NotSupported { .. } | Error::NotImplemented { .. } => "the bucket does not support it",
        _ => return transport(error).unwrap_or_else(|| "the bucket's response is an error".to_owned()),
    };
    text.to_owned()
}

fn transport(error: &Error) -> Option<String> {
    let causes =
        || std::iter::successors(error.source(), |cause: &&(dyn StdError + 'static)| (*cause).source());
    if let Some(http) = causes().find_map(|cause| cause.downcast_ref::<HttpError>()) {
        let text = match http.kind() {
            HttpErrorKind::Connect => "it cannot be reached",
            HttpErrorKind::Timeout => "it did not answer in time",
            _ => "the connection broke or its response was invalid",
        };
        return Some(text.to_owned());
    }
    // The type that holds the status is private; its text is "… status code: 503 Service Unavailable: <body>".
    causes().find_map(|cause| {
        let text = cause.to_string();
        let (_, status) = text.split_once("status code: ")?;
        let status = status.get(..3).filter(|status| status.bytes().all(|byte| byte.is_ascii_digit()))?;
        Some(format!("it answered with the status {status}"))
    })
}
