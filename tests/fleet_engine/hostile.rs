//! A server that is no Redis server, or a hostile one.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rexd::reads::fleet::{Engine, Lease};

use crate::{
    log::Log,
    server::{settings, until},
};

/// How many bytes of one reply may be taken from the sender: a value of 4 MiB, and what sockets and buffers hold.
const MOST_TAKEN: usize = 16 << 20;

/// What a server sends: once, and then again and again.
type Reply = (&'static [u8], &'static [u8]);

/// A server that is polite until a session is open, if `polite`, and then replies to each command with `reply`. It has threads of
/// its own, so that it sends as fast as a remote one.
#[derive(Debug)]
struct Hostile {
    engine: Engine,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// The most bytes that one connection has taken.
    taken: AtomicUsize,
    connections: AtomicUsize,
    /// The connections on which a reply is being sent.
    sending: AtomicUsize,
}

impl Hostile {
    fn start(polite: bool, reply: Reply) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let counts = Arc::clone(&shared);
                counts.connections.fetch_add(1, SeqCst);
                std::thread::spawn(move || serve(stream, polite, reply, &counts));
            }
        });
        Self { engine: Engine::new(&settings(&format!("redis://{address}"))).unwrap(), counts }
    }
}

fn serve(mut stream: TcpStream, polite: bool, (once, again): Reply, counts: &Counts) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(read @ 1..) = stream.read(&mut buffer) else { return };
        let command = &buffer[..read];
        let contains = |name: &[u8]| command.windows(name.len()).any(|window| window == name);
        let sent = if polite && contains(b"PING") {
            stream.write_all(b"+PONG\r\n").is_ok()
        } else if polite && contains(b":probe:") {
            stream.write_all(b"+OK\r\n").is_ok()
        } else {
            counts.sending.fetch_add(1, SeqCst);
            let sent = send(&mut stream, once, again, counts);
            counts.sending.fetch_sub(1, SeqCst);
            sent
        };
        if !sent {
            return;
        }
    }
}

/// Sends until the other side has enough. Returns whether it still listens.
fn send(stream: &mut TcpStream, once: &[u8], again: &[u8], counts: &Counts) -> bool {
    let mut sent = once.len();
    let mut alive = stream.write_all(once).is_ok();
    let many = again.repeat((64 << 10) / again.len().max(1));
    while alive && !many.is_empty() {
        alive = stream.write_all(&many).is_ok();
        sent += many.len();
        counts.taken.fetch_max(sent, SeqCst);
    }
    alive
}

const REPLIES: &[Reply] = &[
    (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\xff\xfe\x80\0", b"\xff\0\x80\x7f"),
    (b"$9223372036854775807\r\n", b"x"),
    (b"$500000000000\r\n", b"x"),
    (b"$4194304\r\n", b"x"),
    (b"*9223372036854775807\r\n", b":1\r\n"),
    (b"*100000\r\n", b"*100000\r\n"),
    (b"*2\r\n$3\r\nabc\r\n", b"*1\r\n"),
    (b"+", b"x"),
    (b"-", b"x"),
    (b"", b":1\r\n"),
    (b"", b"+OK\r\n"),
    (b"", b"$-1\r\n"),
    (b"", b"*0\r\n"),
    (b"", b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n"),
    (b"%1000000000\r\n", b"+a\r\n"),
    (b"\r\n\r\n\0\0\0", b""),
    (b":99999999999999999999999\r\n", b""),
    (b"*2\r\n$12\r\n\0\0\0\0\0\0\0\x01xxxx\r\n:9223372036854775807\r\n", b""),
    (b"*2\r\n$3\r\nabc\r\n:-9223372036854775808\r\n", b""),
    (b"-\x1b[31mCANARY canary\x07\r\n", b""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_not_taken_for_a_reply_and_an_endless_reply_is_cut_off() {
    for reply in REPLIES {
        for polite in [false, true] {
            let Hostile { engine, counts } = Hostile::start(polite, *reply);
            for _ in 0..5 {
                assert_eq!(engine.get("a", 1000).await, None, "{reply:?}");
                engine.put("a", b"x", Duration::from_secs(1)).await;
                if let Lease::Busy(waiter) = engine.lease("a").await {
                    let _ = tokio::time::timeout(Duration::from_millis(100), waiter.wait()).await;
                }
                engine.pauses().announce("docker.io", Duration::from_secs(1));
                assert_eq!(engine.pauses().paused_until("docker.io"), None, "{reply:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let problem = engine.check().await.unwrap_err();
            assert!(!problem.contains("canary") && !problem.contains('\x1b'), "{problem}");
            // Nobody reads on what nobody has asked for.
            until(
                "every connection with a reply is closed",
                || (),
                async |()| counts.sending.load(SeqCst) == 0,
            )
            .await;
            let taken = counts.taken.load(SeqCst);
            assert!(taken <= MOST_TAKEN, "{reply:?}: {taken} bytes were taken");
            // Back-off: not one connection for each call.
            assert!(counts.connections.load(SeqCst) <= 12, "{reply:?}");
        }
    }
}

#[tokio::test]
async fn what_a_server_says_is_not_logged() {
    let (log, _guard) = Log::start();
    let Hostile { engine, .. } = Hostile::start(true, (b"-\x1b[31mCANARY canary\x07\r\n", b""));
    for _ in 0..5 {
        assert_eq!(engine.get("a", 1000).await, None);
    }
    assert_eq!(log.count("refused an operation"), 1, "{}", log.text());
    assert_eq!((log.count("canary"), log.count("\x1b")), (0, 0), "{}", log.text());
}

#[tokio::test]
async fn a_server_that_closes_every_connection_is_away() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let engine = Engine::new(&settings(&format!("redis://{}", listener.local_addr().unwrap()))).unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            drop(stream);
        }
    });
    until(
        "it is found to be away",
        || engine.counts().skipped,
        async |before| {
            assert_eq!(engine.get("a", 10).await, None);
            engine.counts().skipped > before
        },
    )
    .await;
    let problem = engine.check().await.unwrap_err();
    assert!(!problem.is_empty());
}
