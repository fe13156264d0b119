//! A real `redis-server` on a free loopback port, with a directory of its own.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rexd::reads::fleet::{Engine, Settings};
use tempfile::TempDir;

/// How long anything is waited for that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server. It is ended with its value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Option<Child>,
    arguments: Vec<String>,
    directory: TempDir,
    port: u16,
}

impl Server {
    /// Starts a server without persistence.
    pub(crate) fn start() -> Self {
        Self::start_with(|_| Vec::new())
    }

    /// Starts a server with these arguments, which may name its directory.
    pub(crate) fn start_with(arguments: impl Fn(&Path) -> Vec<String>) -> Self {
        // Another program may take the port in between.
        for _ in 0..5 {
            let port = free_port();
            let directory = tempfile::tempdir().unwrap();
            // A configuration file comes first.
            let mut all = arguments(directory.path());
            all.extend(["--port".to_owned(), port.to_string()]);
            let mut server = Self { child: None, arguments: all, directory, port };
            if server.spawn() {
                return server;
            }
        }
        panic!("redis-server does not start");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// An engine for this server: what one replica has.
    pub(crate) fn engine(&self) -> Engine {
        Engine::new(&settings(&self.url())).unwrap()
    }

    /// Runs a command, as an administrator does.
    pub(crate) fn run<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_run(command).unwrap()
    }

    pub(crate) fn try_run<T: redis::FromRedisValue>(&self, command: &[&str]) -> redis::RedisResult<T> {
        let mut connection = redis::Client::open(self.url())?.get_connection()?;
        let (name, arguments) = command.split_first().unwrap();
        redis::cmd(name).arg(arguments).query(&mut connection)
    }

    /// Stops all its threads (SIGSTOP): it accepts connections and replies to nothing.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Ends it at once (SIGKILL).
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again on its port, empty.
    pub(crate) fn restart(&mut self) {
        self.kill();
        assert!(self.spawn(), "redis-server does not start again");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Starts the process, and waits until it accepts connections. `false`: it has ended.
    fn spawn(&mut self) -> bool {
        let mut child = Command::new("redis-server")
            .args(&self.arguments)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server cannot be started: install the package redis-server");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let began = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < PATIENCE, "redis-server does not listen");
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child = Some(child);
        true
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// The settings of an engine at this URL, without sign-in.
pub(crate) fn settings(url: &str) -> Settings {
    Settings {
        url: url.to_owned(),
        username: None,
        password_file: None,
        ca_file: None,
        prefix: "rexd".to_owned(),
    }
}

/// Waits until the engine does what it is asked to.
pub(crate) async fn until_connected(engine: &Engine) {
    until(
        "the engine is used",
        || engine.counts().done,
        async |before| {
            engine.remove("until connected").await;
            engine.counts().done > before
        },
    )
    .await;
}

/// Repeats an attempt until it succeeds. Each attempt is given what was found before it.
pub(crate) async fn until<T>(what: &str, before: impl Fn() -> T, attempt: impl AsyncFn(T) -> bool) {
    let began = Instant::now();
    while !attempt(before()).await {
        assert!(began.elapsed() < PATIENCE, "it never happens that {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
