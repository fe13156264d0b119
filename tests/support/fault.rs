//! A fault proxy: an HTTP/1.1 proxy between the service and a registry that injects the faults of a test.
//!
//! It is a TCP server in front of any plain-HTTP upstream, with one request on each connection. It logs requests, bytes,
//! when connections opened and who closed them. A test can read the log, or wait for an entry.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::{
    connection_log::{ClosedBy, ConnectionLog},
    relay, serve_each,
    wire::{self, Request},
};

/// The kernel's send buffer of a connection in bytes: small, so that what the client does not read stays in the proxy,
/// and a blob of some MiB cannot vanish into socket buffers before a test cancels it.
const SEND_BUFFER: u32 = 64 * 1024;

/// A fault. Offsets count the bytes of the response body as they are on the wire; one at or past the
/// end of the body is never reached.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Closes the connection in an orderly way (FIN) after this many body bytes, all of which arrive.
    CutAfter(u64),
    /// Resets the connection (RST) after this many body bytes. As with any reset, the last of them may be lost.
    ResetAfter(u64),
    /// Inverts one bit of the body byte at `offset`; bit 0 is the lowest.
    FlipBit { offset: u64, bit: u8 },
    /// Sends nothing for `pause` after this many body bytes.
    StallAfter { bytes: u64, pause: Duration },
    /// Delays the head of the response.
    DelayHead(Duration),
    /// Sends this `Content-Length`, and no byte more: below the true one, a complete message whose content is too short.
    AnnounceLength(u64),
    /// Sets a header of the response, or replaces it.
    SetHeader(&'static str, String),
    /// Removes a header from the response.
    DropHeader(&'static str),
    /// Removes `Range` from the request, so that the registry responds with 200 and the whole body.
    IgnoreRange,
    /// Sends these bytes – status line, headers, body, or no HTTP at all – and closes. The registry gets no request.
    Replace(Vec<u8>),
}

/// Which requests a fault applies to: those whose path and query contain a text, or some of these.
#[derive(Clone, Debug)]
pub struct When {
    contains: &'static str,
    /// Counted from 1.
    from: usize,
    to: usize,
}

impl When {
    pub fn always(contains: &'static str) -> Self {
        Self { contains, from: 1, to: usize::MAX }
    }

    /// Only the `n`-th matching request after the fault was injected, counted from 1.
    pub fn nth(n: usize, contains: &'static str) -> Self {
        Self { contains, from: n, to: n }
    }

    /// The first `n` matching requests.
    pub fn first(n: usize, contains: &'static str) -> Self {
        Self { contains, from: 1, to: n }
    }
}

struct Rule {
    when: When,
    fault: Fault,
    seen: usize,
}

/// The proxy. Dropping it closes everything.
pub struct FaultProxy {
    address: SocketAddr,
    rules: Rules,
    log: ConnectionLog,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Clone, Default)]
struct Rules(Arc<Mutex<Vec<Rule>>>);

impl FaultProxy {
    /// A proxy on a free port of 127.0.0.1 that forwards to `upstream`, without faults.
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = listen().expect("a free port on 127.0.0.1");
        let address = listener.local_addr().expect("a bound listener has an address");
        let rules = Rules::default();
        let log = ConnectionLog::default();
        let accepting = serve_each(listener, {
            let (rules, log) = (rules.clone(), log.clone());
            move |client| serve_connection(client, upstream, rules.clone(), log.clone())
        });
        Self { address, rules, log, _accepting: accepting }
    }

    /// Where it listens; as a registry's name, `127.0.0.1:<port>`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a fault. If several apply to one request, all of them are injected.
    pub fn inject(&self, when: When, fault: Fault) {
        self.rules.0.lock().unwrap().push(Rule { when, fault, seen: 0 });
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.rules.0.lock().unwrap().clear();
    }

    /// The log of connections and requests.
    pub fn connection_log(&self) -> &ConnectionLog {
        &self.log
    }
}

impl Rules {
    /// The faults for this request. Counts the request.
    fn faults_for(&self, request: &Request) -> Vec<Fault> {
        let mut struck = Vec::new();
        for rule in self.0.lock().unwrap().iter_mut() {
            if request.target.contains(rule.when.contains) {
                rule.seen += 1;
                if (rule.when.from..=rule.when.to).contains(&rule.seen) {
                    struck.push(rule.fault.clone());
                }
            }
        }
        struck
    }
}

/// A listener on a free port of 127.0.0.1 whose connections have the small [`SEND_BUFFER`].
fn listen() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    socket.listen(1024)
}

/// One connection: reads the request, then relays the response until it is complete or the client is gone.
async fn serve_connection(mut client: TcpStream, upstream: SocketAddr, rules: Rules, log: ConnectionLog) {
    let entry = log.begin();
    let Ok(Some(request)) = wire::read_request(&mut client).await else {
        return entry.close(ClosedBy::Client);
    };
    let faults = rules.faults_for(&request);
    entry.update(|connection| {
        connection.faults = faults.len();
        connection.request = Some(request.clone());
    });
    let by = relay::relay_response(client, upstream, request, faults, &entry).await;
    entry.close(by);
}
