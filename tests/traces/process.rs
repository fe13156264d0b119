//! `rexd serve` as a process, with its log in a pipe.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStderr, Command, Stdio},
};

use rexd::grpc::proto::registry_service_client::RegistryServiceClient;
use tonic::transport::{Channel, Endpoint};

/// The service in front of one registry. Killed when dropped.
pub(crate) struct Service {
    child: Child,
    log: BufReader<ChildStderr>,
    address: SocketAddr,
    ops: SocketAddr,
}

/// An address with a free port; no other process should take it before the service binds it.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Service {
    /// Starts the service and waits until it serves; it exports to `collector`, if there is one.
    pub(crate) fn start(registry: SocketAddr, collector: Option<SocketAddr>) -> Self {
        Self::start_with(registry, collector, &[])
    }

    /// The same, with further environment variables.
    pub(crate) fn start_with(
        registry: SocketAddr,
        collector: Option<SocketAddr>,
        environment: &[(&str, &str)],
    ) -> Self {
        let (address, ops) = (free_address(), free_address());
        let mut command = Command::new(env!("CARGO_BIN_EXE_rexd"));
        command
            .args(["serve", "--listen", &address.to_string()])
            .env("REXD_REGISTRIES", format!("{{demo.local: {{url: \"http://{registry}\"}}}}"))
            .env("REXD_DEFAULT_REGISTRY", "demo.local")
            .env("REXD_OPS_LISTEN", ops.to_string())
            .env("REXD_ALLOW_UNLISTED", "true")
            .env("REXD_LIMITS__DRAIN_PAUSE", "1ms")
            .envs(environment.iter().copied())
            .stderr(Stdio::piped());
        if let Some(collector) = collector {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"));
        }
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        while !seen.contains("\"serving\"") {
            assert!(log.read_line(&mut seen).unwrap() > 0, "the service ended early: {seen}");
        }
        Self { child, log, address, ops }
    }

    pub(crate) async fn client(&self) -> RegistryServiceClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        RegistryServiceClient::new(endpoint.connect().await.unwrap())
    }

    /// The page of the metrics.
    pub(crate) fn metrics(&self) -> String {
        self.page("/metrics")
    }

    /// A page of the ops port.
    pub(crate) fn page(&self, path: &str) -> String {
        let mut connection = TcpStream::connect(self.ops).unwrap();
        connection.write_all(format!("GET {path} HTTP/1.1\r\nhost: ops\r\n\r\n").as_bytes()).unwrap();
        let mut response = String::new();
        connection.read_to_string(&mut response).unwrap();
        let (head, page) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain"), "{head}");
        page.to_owned()
    }

    /// Stops the service with SIGTERM, which must succeed. Returns what it logged while serving, a JSON object a line.
    pub(crate) fn stop(mut self) -> Vec<serde_json::Value> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        let code = self.child.wait().unwrap();
        assert!(code.success(), "{code}: {log}");
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
