//! Running out of file descriptors. The limit is per process, so the test runs itself as a child process, under a limit
//! that a shell sets.

use std::{
    env,
    fs::File,
    io::Write,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::TcpSocket, time::sleep};

use crate::{
    caller::{Caller, SERVING},
    server::{settings, start},
};

const CHILD: &str = "REXD_TEST_FEW_DESCRIPTORS";

#[test]
fn running_out_of_descriptors_pauses_accepting_and_recovers() {
    let this = "file_descriptors::running_out_of_descriptors_pauses_accepting_and_recovers";
    if env::var_os(CHILD).is_some() {
        return tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(starve());
    }
    let child = Command::new("sh")
        .args(["-c", "ulimit -n 128 && exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(env::current_exe().unwrap())
        .arg(this)
        .env(CHILD, "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && output.contains("1 passed"), "{output}");
}

async fn starve() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let server = start(settings()).await;

    // The caller has its socket before the last descriptor is gone; the kernel completes the connection, and accept
    // finds no descriptor for its end.
    let socket = TcpSocket::new_v4().unwrap();
    let mut open_files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        open_files.push(file);
    }
    let stream = socket.connect(server.address).await.unwrap();
    sleep(Duration::from_millis(700)).await;
    let failures = log.count("cannot accept connections");
    // 10 + 20 + 40 + 80 + 160 + 320 ms: six fit, the seventh begins.
    assert!((2..=7).contains(&failures), "accept was tried {failures} times in 0.7 s");

    drop(open_files);
    let mut caller = Caller::over(stream).await.unwrap();
    assert_eq!(caller.health().await.unwrap(), SERVING);
}

/// The log of the process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn count(&self, what: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap()).matches(what).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
