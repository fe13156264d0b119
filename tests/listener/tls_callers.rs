//! Certificates of callers: the authority in the file decides which are accepted, and a changed file takes effect.

use std::{fs, net::SocketAddr, time::Duration};

use rexd::server::tls::Files;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    caller::{Caller, PATIENCE, SERVING},
    server::{self, settings},
    tls::{Issuer, authority, connect, connector, files, issue, write},
};

/// Whether a caller with a certificate of `issuer` is served on a new connection.
async fn is_served(address: SocketAddr, server_ca: &Issuer, issuer: &Issuer) -> bool {
    let Ok(stream) = connect(address, &connector(server_ca, Some(issue(issuer)))).await else {
        return false;
    };
    // In TLS 1.3 the caller learns of the refusal when it reads.
    match Caller::over(stream).await {
        Ok(mut caller) => caller.health().await.is_ok_and(|status| status == SERVING),
        Err(_) => false,
    }
}

#[tokio::test]
async fn callers_of_a_new_authority_are_accepted_and_those_of_the_old_one_refused() {
    let (directory, ca) = (TempDir::new().unwrap(), authority());
    let (old, new) = (authority(), authority());
    write(directory.path(), &ca);
    let client_ca = directory.path().join("ca.crt");
    fs::write(&client_ca, old.pem()).unwrap();
    let files = Files { client_ca: Some(client_ca.clone()), ..files(directory.path()) };
    let server = server::start_with_tls(settings(), Some(files)).await;
    assert!(is_served(server.address, &ca, &old).await);
    assert!(!is_served(server.address, &ca, &new).await);

    fs::write(&client_ca, new.pem()).unwrap();
    let begun = Instant::now();
    while !is_served(server.address, &ca, &new).await {
        assert!(begun.elapsed() < PATIENCE, "the new authority is not in effect");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(!is_served(server.address, &ca, &old).await);
}
