#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{io, sync::mpsc};

use super::*;
use crate::http::egress::{Bound, GuardedResolver, Lookups, SystemResolver, Trust};

const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

/// The error of a request to a name that this resolver looks up, where this many lookups may be in progress.
async fn error(system: SystemResolver, lookups: usize) -> RexError {
    let lookups = Lookups::with(system, Bound::new("of the test", lookups), CONNECT_TIMEOUT);
    let resolver = GuardedResolver { lookups, proxy_host: None, trust: Trust::Registry };
    let client = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_TIMEOUT);
    let client = client.dns_resolver(Arc::new(resolver)).build().unwrap();
    let error = client.get("http://registry.test/v2/").send().await.unwrap_err();
    of(error, At::default(), CONNECT_TIMEOUT, Duration::MAX)
}

#[tokio::test]
async fn a_name_lookup_that_hangs_is_a_timeout_that_names_the_lookup() {
    let (released, hanging) = mpsc::channel::<()>();
    let hanging = std::sync::Mutex::new(hanging);
    let system: SystemResolver = Arc::new(move |_| {
        let _ = hanging.lock().unwrap().recv();
        Err(io::Error::other("released"))
    });
    let error = error(system, 1).await;
    drop(released);
    assert!(matches!(error, RexError::Timeout { wait: Wait::Lookup, .. }), "{error:?}");
    assert!(is_transient(&error));
}

#[tokio::test]
async fn a_name_lookup_beyond_the_limit_is_an_overload_and_is_not_tried_again() {
    let error = error(Arc::new(|_| Ok(Vec::new())), 0).await;
    assert!(!is_transient(&error));
    let RexError::Overloaded { problem, retry_after } = error else { panic!("{error:?}") };
    assert_eq!(problem, "0 name lookups of registries of the test are in progress");
    assert!(!retry_after.is_zero());
}

#[tokio::test]
async fn a_name_lookup_that_fails_is_a_failed_connection_with_the_message_of_the_resolver() {
    let error = error(Arc::new(|_| Err(io::Error::other("no such name"))), 1).await;
    let RexError::Network { problem, .. } = &error else { panic!("{error:?}") };
    assert_eq!(problem, "cannot connect: no such name");
    assert!(is_transient(&error));
}
