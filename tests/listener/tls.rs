//! TLS: which callers are accepted, and which certificate the server presents.

use std::{
    error::Error, fs, io, net::SocketAddr, os::unix::fs::symlink, path::Path, sync::Arc, time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rexd::server::{Readiness, Server, Settings, tls::Files};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::service::Routes;

use crate::{
    caller::{Caller, PATIENCE, SERVING, end},
    drain, server,
    server::{memory_budget, settings},
    wire,
};

pub(crate) type Issuer = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Issuer {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for `rexd.test` and its key.
pub(crate) fn issue(issuer: &Issuer) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["rexd.test".to_owned()]).unwrap();
    (params.signed_by(&key, issuer).unwrap(), key)
}

pub(crate) fn files(directory: &Path) -> Files {
    Files { certificate: directory.join("tls.crt"), key: directory.join("tls.key"), client_ca: None }
}

/// Writes a new certificate into the directory, and returns it.
pub(crate) fn write(directory: &Path, issuer: &Issuer) -> CertificateDer<'static> {
    let (certificate, key) = issue(issuer);
    fs::write(directory.join("tls.crt"), certificate.pem()).unwrap();
    fs::write(directory.join("tls.key"), key.serialize_pem()).unwrap();
    certificate.der().clone()
}

pub(crate) fn connector(ca: &Issuer, identity: Option<(rcgen::Certificate, KeyPair)>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((certificate, key)) => {
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            config.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

pub(crate) async fn connect(
    address: SocketAddr,
    connector: &TlsConnector,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    timeout(PATIENCE, connector.connect(ServerName::try_from("rexd.test").unwrap(), stream)).await.unwrap()
}

fn server_certificate(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Waits until the server presents `certificate` on new connections.
async fn is_presented_soon(address: SocketAddr, ca: &Issuer, certificate: &CertificateDer<'_>) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if server_certificate(&connect(address, &connector(ca, None)).await.unwrap()) == *certificate {
            return true;
        }
        sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn calls_are_served_over_tls_with_h2_agreed() {
    let (directory, ca) = (TempDir::new().unwrap(), authority());
    write(directory.path(), &ca);
    let server = server::start_with_tls(settings(), Some(files(directory.path()))).await;
    let stream = connect(server.address, &connector(&ca, None)).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(Caller::over(stream).await.unwrap().health().await.unwrap(), SERVING);
}

#[tokio::test]
async fn a_socket_silent_in_the_handshake_is_closed() {
    let (directory, ca) = (TempDir::new().unwrap(), authority());
    write(directory.path(), &ca);
    let limit = Duration::from_millis(200);
    let settings = Settings { handshake_timeout: limit, ..settings() };
    let server = server::start_with_tls(settings, Some(files(directory.path()))).await;
    let begun = Instant::now();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    // The head of a ClientHello whose rest never follows.
    silent.write_all(&[22, 3, 1, 0, 200, 1, 0, 0, 196]).await.unwrap();
    assert!(wire::closes_within(&mut silent, Duration::from_secs(3)).await);
    assert!(begun.elapsed() >= limit, "it was closed before the limit");
}

#[tokio::test]
async fn a_socket_silent_after_the_handshake_is_closed() {
    let (directory, ca) = (TempDir::new().unwrap(), authority());
    write(directory.path(), &ca);
    let settings = Settings { preface_timeout: Duration::from_millis(200), ..settings() };
    let server = server::start_with_tls(settings, Some(files(directory.path()))).await;
    let mut silent = connect(server.address, &connector(&ca, None)).await.unwrap();
    assert!(wire::closes_within(&mut silent, Duration::from_secs(3)).await);
}

#[tokio::test]
async fn a_socket_silent_in_the_handshake_does_not_hold_the_drain() {
    let (directory, ca) = (TempDir::new().unwrap(), authority());
    write(directory.path(), &ca);
    let settings = Settings { drain_grace: server::NEVER, ..settings() };
    let server = server::start_with_tls(settings, Some(files(directory.path()))).await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let took = drain::stopped(server).await;
    assert!(took < Duration::from_secs(1), "took {took:?}");
}

#[tokio::test]
async fn a_new_certificate_is_presented_and_old_connections_continue() {
    let (directory, ca) = (TempDir::new().unwrap(), authority());
    let old = write(directory.path(), &ca);
    let server = server::start_with_tls(settings(), Some(files(directory.path()))).await;
    let stream = connect(server.address, &connector(&ca, None)).await.unwrap();
    assert_eq!(server_certificate(&stream), old);
    let mut caller = Caller::over(stream).await.unwrap();

    let new = write(directory.path(), &ca);
    assert!(is_presented_soon(server.address, &ca, &new).await);
    assert_eq!(caller.health().await.unwrap(), SERVING);
}

#[tokio::test]
async fn a_replaced_data_link_is_noticed() {
    let (directory, ca) = (TempDir::new().unwrap(), authority());
    let root = directory.path();
    // As the kubelet mounts a secret: the files are links through `..data`, which a rename replaces.
    for generation in ["..1", "..2"] {
        fs::create_dir(root.join(generation)).unwrap();
    }
    write(&root.join("..1"), &ca);
    let new = write(&root.join("..2"), &ca);
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/tls.crt", root.join("tls.crt")).unwrap();
    symlink("..data/tls.key", root.join("tls.key")).unwrap();
    let server = server::start_with_tls(settings(), Some(files(root))).await;

    symlink("..2", root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    assert!(is_presented_soon(server.address, &ca, &new).await);
}

#[tokio::test]
async fn broken_new_files_keep_the_last_good_ones() {
    let (directory, ca) = (TempDir::new().unwrap(), authority());
    let old = write(directory.path(), &ca);
    let server = server::start_with_tls(settings(), Some(files(directory.path()))).await;
    for (name, content) in [("tls.crt", "no PEM"), ("tls.key", "no PEM")] {
        fs::write(directory.path().join(name), content).unwrap();
        sleep(Duration::from_millis(150)).await;
        assert_eq!(server_certificate(&connect(server.address, &connector(&ca, None)).await.unwrap()), old);
    }
    fs::remove_file(directory.path().join("tls.key")).unwrap();
    sleep(Duration::from_millis(150)).await;
    assert_eq!(server_certificate(&connect(server.address, &connector(&ca, None)).await.unwrap()), old);

    let new = write(directory.path(), &ca);
    assert!(is_presented_soon(server.address, &ca, &new).await);
}

#[tokio::test]
async fn a_caller_without_the_required_certificate_is_refused() {
    let (directory, ca, other) = (TempDir::new().unwrap(), authority(), authority());
    write(directory.path(), &ca);
    let client_ca = directory.path().join("ca.crt");
    fs::write(&client_ca, ca.pem()).unwrap();
    let files = Files { client_ca: Some(client_ca), ..files(directory.path()) };
    let server = server::start_with_tls(settings(), Some(files)).await;

    for refused in [None, Some(issue(&other))] {
        // In TLS 1.3 the client learns of the refusal when it reads.
        let error = match connect(server.address, &connector(&ca, refused)).await {
            Ok(mut stream) => timeout(PATIENCE, stream.read_u8()).await.unwrap().expect_err("refused"),
            Err(error) => error,
        };
        assert!(error.to_string().contains("alert"), "{error}");
    }

    let stream = connect(server.address, &connector(&ca, Some(issue(&ca)))).await.unwrap();
    let mut caller = Caller::over(stream).await.unwrap();
    let response = end(caller.work("Hold", 0).await.unwrap()).await.unwrap();
    assert_eq!(response.headers["x-identity"], "true");
}

/// The error of starting a server with these files.
async fn refusal(files: Files) -> String {
    let (readiness, health) = Readiness::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (settings, routes) = (settings(), Routes::new(health));
    let server = Server {
        settings,
        memory: memory_budget(),
        routes,
        listener,
        tls: Some(files),
        ops: None,
        ops_pages: Vec::new(),
        readiness,
    };
    let error =
        timeout(PATIENCE, server.run(std::future::pending())).await.unwrap().expect_err("it does not start");
    format!("{error}: {:?}", error.source().map(ToString::to_string))
}

#[tokio::test]
async fn broken_files_at_the_start_are_errors_that_name_them() {
    let (directory, ca) = (TempDir::new().unwrap(), authority());
    let good = files(directory.path());
    assert!(refusal(good.clone()).await.contains("cannot read"));
    write(directory.path(), &ca);

    let bad = directory.path().join("bad.pem");
    let name = bad.display().to_string();
    for broken in [
        Files { certificate: bad.clone(), ..good.clone() },
        Files { key: bad.clone(), ..good.clone() },
        Files { client_ca: Some(bad.clone()), ..good.clone() },
    ] {
        for content in ["", "no PEM", "-----BEGIN PRIVATE KEY-----c2VjcmV0\n-----END PRIVATE KEY-----\n"] {
            fs::write(&bad, content).unwrap();
            let error = refusal(broken.clone()).await;
            assert!(error.contains(&name), "{error}");
        }
    }

    fs::write(&bad, "-----BEGIN PRIVATE KEY-----c2VjcmV0\n-----END PRIVATE KEY-----\n").unwrap();
    let error = refusal(Files { key: bad.clone(), ..good.clone() }).await;
    assert!(!error.contains("c2VjcmV0"), "a key with its line breaks lost is not quoted: {error}");

    fs::write(&bad, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = refusal(Files { key: bad, ..good }).await;
    assert!(error.contains(&name) && error.contains("not a matching certificate and key"), "{error}");
}
