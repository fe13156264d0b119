//! The status of a call that the listener ends, whatever its service is.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::error::ERROR_DOMAIN;

/// Another replica can be called at once; a single one needs a moment.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// UNAVAILABLE, with this reason. Clients' retry policies know the code.
pub(super) fn unavailable(reason: &str, message: impl Into<String>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, ERROR_DOMAIN, HashMap::new());
    details.set_retry_info(Some(RETRY_AFTER));
    Status::with_error_details(Code::Unavailable, message, details)
}
