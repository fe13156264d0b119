//! A registry that sends scripted responses: sign-in challenges, foreign pagination, redirects, HTML or no HTTP at all,
//! none of which the sample registry sends.
//!
//! A request that is not in the script gets status 599 and is kept, so that a test can say
//! `assert!(registry.unexpected().is_empty())`.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::{
    listen, serve_each,
    wire::{self, Head, Request},
};

/// A response, as the bytes of an HTTP/1.1 message or as any bytes.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A message. `Content-Length` is correct unless given, and the connection closes afterwards.
    Message { head: Head, body: Vec<u8> },
    /// Sent as it is.
    Raw(Vec<u8>),
}

impl Reply {
    /// A response with this status, no headers and no body.
    pub fn status(status: u16) -> Self {
        let head = Head { start_line: format!("HTTP/1.1 {status} Scripted"), headers: Vec::new() };
        Self::Message { head, body: Vec::new() }
    }

    /// 200 with a JSON document.
    pub fn json(document: &serde_json::Value) -> Self {
        Self::status(200).header("Content-Type", "application/json").body(document.to_string())
    }

    /// Adds a header; the same name may come more than once.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        match &mut self {
            Self::Message { head, .. } => head.headers.push((name.to_owned(), value.into())),
            Self::Raw(_) => panic!("raw bytes have no headers"),
        }
        self
    }

    pub fn body(mut self, content: impl Into<Vec<u8>>) -> Self {
        match &mut self {
            Self::Message { body, .. } => *body = content.into(),
            Self::Raw(_) => panic!("raw bytes have no body"),
        }
        self
    }

    /// The bytes to send. HEAD gets only the head.
    fn encode(self, method: &str) -> Vec<u8> {
        match self {
            Self::Raw(bytes) => bytes,
            Self::Message { mut head, body } => {
                // Neither is allowed with 204 and 304, RFC 9110 section 8.6.
                if head.header("content-length").is_none() && head.header("transfer-encoding").is_none() {
                    head.set("Content-Length", body.len().to_string());
                }
                head.set("Connection", "close");
                let mut bytes = head.encode();
                if method != "HEAD" {
                    bytes.extend(body);
                }
                bytes
            }
        }
    }
}

type Respond = Box<dyn Fn(&Request) -> Option<Reply> + Send>;

#[derive(Default)]
struct Script {
    lines: Vec<Line>,
    otherwise: Option<Respond>,
    requests: Vec<Request>,
    unexpected: Vec<Request>,
}

struct Line {
    method: String,
    target: String,
    replies: VecDeque<Reply>,
    repeat: bool,
}

/// The registry. Dropping it closes everything.
pub struct ScriptedRegistry {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    _accepting: AbortOnDropHandle<()>,
}

impl ScriptedRegistry {
    /// A registry on a free port of 127.0.0.1 that expects nothing yet: its address is known before the script is
    /// written, since a challenge or a redirect may have to name it.
    pub async fn start() -> Self {
        let listener = listen().await;
        let address = listener.local_addr().expect("a bound listener has an address");
        let script = Arc::new(Mutex::new(Script::default()));
        let accepting = serve_each(listener, {
            let script = Arc::clone(&script);
            move |client| serve(client, Arc::clone(&script))
        });
        Self { address, script, _accepting: accepting }
    }

    /// Where it listens; as a registry's name, `127.0.0.1:<port>`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Responds to requests for exactly this method and path with query: to the first with the first reply, and so on.
    /// One more request is unexpected.
    pub fn on(&self, method: &str, target: &str, replies: impl IntoIterator<Item = Reply>) {
        self.add(method, target, replies.into_iter().collect(), false);
    }

    /// Responds with this reply to every request for exactly this method and path with query.
    pub fn always(&self, method: &str, target: &str, reply: Reply) {
        self.add(method, target, [reply].into(), true);
    }

    /// Calls `respond` for requests that the script does not list; `None` makes them unexpected.
    pub fn otherwise(&self, respond: impl Fn(&Request) -> Option<Reply> + Send + 'static) {
        self.script.lock().unwrap().otherwise = Some(Box::new(respond));
    }

    /// All requests so far, the unexpected ones included, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.script.lock().unwrap().requests.clone()
    }

    /// The requests that the script does not list.
    pub fn unexpected(&self) -> Vec<Request> {
        self.script.lock().unwrap().unexpected.clone()
    }

    /// Method and target of requests that [`ScriptedRegistry::on`] expects and that have not come.
    pub fn missing(&self) -> Vec<(String, String)> {
        let script = self.script.lock().unwrap();
        let missing = script.lines.iter().filter(|line| !line.repeat && !line.replies.is_empty());
        missing.map(|line| (line.method.clone(), line.target.clone())).collect()
    }

    fn add(&self, method: &str, target: &str, replies: VecDeque<Reply>, repeat: bool) {
        let (method, target) = (method.to_owned(), target.to_owned());
        self.script.lock().unwrap().lines.push(Line { method, target, replies, repeat });
    }
}

impl Script {
    fn respond(&mut self, request: Request) -> Reply {
        self.requests.push(request.clone());
        let scripted = self
            .lines
            .iter_mut()
            .filter(|line| line.method == request.method && line.target == request.target)
            .find_map(
                |line| {
                    if line.repeat { line.replies.front().cloned() } else { line.replies.pop_front() }
                },
            );
        let reply = scripted.or_else(|| self.otherwise.as_ref().and_then(|respond| respond(&request)));
        reply.unwrap_or_else(|| {
            self.unexpected.push(request);
            Reply::status(599)
        })
    }
}

async fn serve(mut client: TcpStream, script: Arc<Mutex<Script>>) {
    // A connection without a request is not an unexpected request.
    if let Ok(Some(request)) = wire::read_request(&mut client).await {
        let method = request.method.clone();
        let reply = script.lock().unwrap().respond(request);
        // The client may close the connection at any time.
        let _ = client.write_all(&reply.encode(&method)).await;
        let _ = client.shutdown().await;
    }
}
