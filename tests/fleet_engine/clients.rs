//! Three replicas' clients in front of one registry that counts.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rexd::{
    client::{CallContext, Client, HttpSettings, Limits, Listing, PageRequest, Settings, Share, Target},
    error::RexError,
    memory::{MemoryBudget, MemoryLimits},
    reads::fleet::{BudgetLimits, Engine},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::server::{Server, until, until_connected};

const REGISTRY: &str = "registry.test";

/// A registry with one page of tags. It counts requests, at the same time and in all, and may limit their rate.
#[derive(Debug)]
struct Registry {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
    limited: AtomicBool,
}

impl Registry {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(respond(stream, Arc::clone(&shared)));
            }
        });
        Self { address, counts }
    }

    fn client(&self, engine: &Engine, limits: BudgetLimits) -> Arc<Client> {
        let limit = Duration::from_secs(30);
        let http = HttpSettings {
            listed: true,
            ca_file: None,
            client_certificate: None,
            proxy: None,
            http1_only: false,
            headers: http::HeaderMap::new(),
            token_realms: Vec::new(),
            trusted_origins: Vec::new(),
            max_concurrent_requests: 1000,
            max_concurrent_blobs: 1000,
            connect_timeout: limit,
            header_timeout: limit,
            idle_timeout: limit,
            body_timeout: limit,
            auth_body_bytes: 64 << 10,
            fleet: Some(engine.registry(REGISTRY, limits)),
        };
        let settings = Settings {
            registry: REGISTRY.parse().unwrap(),
            url: format!("http://{}", self.address).parse().unwrap(),
            credentials: Vec::new(),
            page_parameters: Vec::new(),
            http,
        };
        let limits = Limits { manifest_bytes: 4 << 20, list_page_bytes: 4 << 20, max_pages: 100 };
        Arc::new(Client::new([settings], Box::new(|_| None), limits).unwrap())
    }
}

async fn respond(mut stream: TcpStream, counts: Arc<Counts>) {
    let mut buffer = vec![0; 1 << 14];
    let Ok(1..) = stream.read(&mut buffer).await else { return };
    counts.requests.fetch_add(1, SeqCst);
    let response = if counts.limited.load(SeqCst) {
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    } else {
        counts.most.fetch_max(counts.now.fetch_add(1, SeqCst) + 1, SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        counts.now.fetch_sub(1, SeqCst);
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{\"tags\":[\"v1\"]}"
    };
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn list(client: &Client) -> Result<(), RexError> {
    let limits = MemoryLimits { total: 64 << 20, per_peer: 64 << 20, per_caller: 64 << 20 };
    let deadline = Some(tokio::time::Instant::now() + Duration::from_secs(25));
    let call = CallContext::new(deadline, Share::of(""), MemoryBudget::new(limits).account());
    let target = Target { registry: REGISTRY.parse().unwrap(), repository: "org/app".parse().unwrap() };
    let request = PageRequest { listing: Listing::Tags(target), size: 10, token: None };
    client.list(&request, None, &call).await.map(drop)
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_registry_that_limits_the_rate_is_asked_by_one_replica_only() {
    let (server, registry) = (Server::start(), Registry::start().await);
    let engines = [server.engine(), server.engine(), server.engine()];
    let clients = engines.each_ref().map(|engine| registry.client(engine, BudgetLimits::default()));
    for client in &clients {
        list(client).await.unwrap();
    }
    registry.counts.limited.store(true, SeqCst);
    let before = registry.counts.requests.load(SeqCst);
    list(&clients[0]).await.unwrap_err();
    for engine in &engines {
        until("the pause is known", || (), async |()| engine.pauses().paused_until(REGISTRY).is_some()).await;
    }
    let calls = (0..30).map(|number| {
        let client = Arc::clone(&clients[number % 3]);
        tokio::spawn(async move { list(&client).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(matches!(call.await.unwrap(), Err(RexError::RateLimit { retry_after: Some(_), .. })));
    }
    assert_eq!(registry.counts.requests.load(SeqCst) - before, 1);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn three_replicas_with_100_calls_each_keep_the_budget_of_the_fleet() {
    let (server, registry) = (Server::start(), Registry::start().await);
    let limits = BudgetLimits { requests_per_second: Some(100), max_concurrent_requests: Some(4) };
    let engines = [server.engine(), server.engine(), server.engine()];
    for engine in &engines {
        until_connected(engine).await;
    }
    let clients = engines.each_ref().map(|engine| registry.client(engine, limits));
    let began = Instant::now();
    let calls = (0..300).map(|number| {
        let client = Arc::clone(&clients[number % 3]);
        tokio::spawn(async move { list(&client).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    let elapsed = began.elapsed();
    assert_eq!(registry.counts.requests.load(SeqCst), 300);
    assert!(elapsed >= Duration::from_millis(2950), "{elapsed:?}");
    assert!(registry.counts.most.load(SeqCst) <= 4, "{:?}", registry.counts);
    println!("300 requests of 3 replicas took {elapsed:?}; at most {:?} at once", registry.counts.most);
}
