//! The process `rexd serve`: what it logs when it starts, and how it handles signals.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, ChildStderr, Command, Stdio},
};

use crate::caller::{Caller, SERVING};

/// A running `rexd serve`. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Process {
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts it with these environment variables, besides those of every test.
    pub(crate) fn start_with(variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rexd"))
            .args(["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"])
            .env("REXD_REGISTRIES", "{demo.local: {url: \"http://127.0.0.1:1\"}}")
            .env("REXD_DEFAULT_REGISTRY", "demo.local")
            .env("REXD_LIMITS__DRAIN_PAUSE", "1ms")
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// The address of the listener, once it is in the log.
    pub(crate) fn listen_address(&mut self) -> SocketAddr {
        address(&self.wait_for_line("\"serving\""), "listen")
    }

    /// The next line of the log that contains `text`.
    fn wait_for_line(&mut self, text: &str) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "the process ended; its log: {seen}");
            if line.contains(text) {
                return line;
            }
            seen += &line;
        }
    }

    fn send(&self, signal: &str) {
        assert!(
            Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success()
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in a field of a line of the log, which is JSON.
fn address(line: &str, field: &str) -> SocketAddr {
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    line[field]
        .as_str()
        .unwrap_or_default()
        .parse()
        .unwrap_or_else(|_| panic!("{field} is not an address: {line}"))
}

#[test]
fn the_log_names_the_listening_addresses() {
    let mut process = Process::start();
    let line = process.wait_for_line("\"serving\"");
    for field in ["listen", "ops_listen"] {
        assert_ne!(address(&line, field).port(), 0, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_is_logged_and_the_service_continues() {
    let mut process = Process::start();
    let address = process.listen_address();
    for _ in 0..2 {
        process.send("-HUP");
        process.wait_for_line("SIGHUP is ignored");
    }
    assert_eq!(Caller::connect(address).await.unwrap().health().await.unwrap(), SERVING);
    process.send("-TERM");
    assert!(process.child.wait().unwrap().success());
}
