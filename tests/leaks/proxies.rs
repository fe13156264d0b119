//! The registry's forward proxy: it gets its own credentials and nothing of the registry's that TLS hides from it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rexd::client::Proxy;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::TcpStream,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use crate::{
    support::{
        call::Call,
        calls::Files,
        listen,
        scripted::{Reply, ScriptedRegistry},
        service::{Options, Service, settings, with_http},
    },
    tls::Front,
};

const NAME: &str = "registry.test";

/// A proxy that sends every connection to one server, or refuses it. It keeps the first head of each connection.
struct ForwardProxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl ForwardProxy {
    async fn before(server: SocketAddr, refuse: bool) -> Self {
        let listener = listen().await;
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, server, refuse, Arc::clone(&kept)));
            }
        });
        Self { address, heads, _accepting: AbortOnDropHandle::new(accepting) }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// As a registry's setting, with credentials.
    fn setting(&self, files: &Files) -> Option<Proxy> {
        let url = format!("http://{}", self.address).parse().unwrap();
        Some(Proxy { url, credentials: Some(("paula".to_owned(), files.write("proxy", "s3cret"))) })
    }
}

async fn forward(mut client: TcpStream, server: SocketAddr, refuse: bool, heads: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let text = String::from_utf8(head.clone()).unwrap();
    let is_tunnel = text.starts_with("CONNECT ");
    heads.lock().unwrap().push(text);
    if refuse {
        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        let _ = client.write_all(refusal).await;
        return;
    }
    let mut server = TcpStream::connect(server).await.unwrap();
    if is_tunnel {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    } else {
        // A scripted registry compares the path.
        let text = String::from_utf8(head).unwrap().replacen("http://registry.test", "", 1);
        server.write_all(text.as_bytes()).await.unwrap();
    }
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

fn authorization(head: &str) -> Option<&str> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("proxy-authorization").then_some(value)
    })
}

fn expected() -> String {
    format!("Basic {}", STANDARD.encode("paula:s3cret"))
}

async fn registry() -> ScriptedRegistry {
    let registry = ScriptedRegistry::start().await;
    registry.always("GET", "/v2/", Reply::status(200));
    registry
}

#[tokio::test]
async fn a_plain_request_names_the_whole_url_and_the_proxys_credentials() {
    let (files, registry) = (Files::new(), registry().await);
    let proxy = ForwardProxy::before(registry.address(), false).await;
    let mut settings =
        with_http(settings(NAME, registry.address()), |http| http.proxy = proxy.setting(&files));
    settings.url = format!("http://{NAME}").parse().unwrap();
    let service = Service::start(vec![settings], Options::default()).await;
    Call::ping(NAME).outcome(&mut service.client().await).await.unwrap();
    let heads = proxy.heads();
    assert!(heads[0].starts_with("GET http://registry.test/v2/ HTTP/1.1\r\n"), "{heads:?}");
    assert_eq!(authorization(&heads[0]), Some(&*expected()));
}

#[tokio::test]
async fn a_request_over_tls_goes_through_a_tunnel_and_the_registry_gets_no_credentials_of_the_proxy() {
    let (files, registry) = (Files::new(), registry().await);
    let front = Front::before(registry.address(), &files).await;
    let proxy = ForwardProxy::before(front.address, false).await;
    let mut settings = with_http(settings(NAME, front.address), |http| {
        http.proxy = proxy.setting(&files);
        http.ca_file = Some(front.ca_file.clone());
    });
    settings.url = format!("https://localhost:{}", front.address.port()).parse().unwrap();
    let service = Service::start(vec![settings], Options::default()).await;
    Call::ping(NAME).outcome(&mut service.client().await).await.unwrap();
    let heads = proxy.heads();
    let target = format!("localhost:{}", front.address.port());
    assert!(heads[0].starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")), "{heads:?}");
    assert_eq!(authorization(&heads[0]), Some(&*expected()));
    assert_eq!(heads.len(), 1);
    let requests = registry.requests();
    assert_eq!(requests.len(), 1);
    let names: Vec<_> = requests[0].head.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    assert!(!names.iter().any(|name| name.starts_with("proxy-")), "{names:?}");
    assert!(names.iter().any(|name| name == "user-agent") && names.iter().any(|name| name == "accept"));
}

#[tokio::test]
async fn a_proxy_that_refuses_the_tunnel_makes_the_registry_unreachable() {
    let (files, registry) = (Files::new(), registry().await);
    let proxy = ForwardProxy::before(registry.address(), true).await;
    let mut settings =
        with_http(settings(NAME, registry.address()), |http| http.proxy = proxy.setting(&files));
    settings.url = "https://registry.test".parse().unwrap();
    let service = Service::start(vec![settings], Options::default()).await;
    let failure = Call::ping(NAME).failure(&mut service.client().await).await;
    assert_eq!((failure.status.code(), &*failure.reason), (Code::Unavailable, "REGISTRY_UNREACHABLE"));
    assert!(failure.status.message().contains("cannot connect"), "{:?}", failure.status);
    assert!(registry.requests().is_empty());
}
