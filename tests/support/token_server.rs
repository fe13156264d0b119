//! A token service for tests (Docker's token protocol), and a registry that accepts its tokens.
//!
//! It counts its exchanges. [`Rules`] has what differs between real ones. Anything else – a redirect, HTML, a flood of
//! bytes – is a reply in [`Rules::reply`].

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use url::form_urlencoded;

use super::{
    scripted::{Reply, ScriptedRegistry},
    wire::Request,
};

/// How the service behaves. By default, every request gets a token for five minutes.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The pairs of user name and password that Basic accepts. If empty, no credentials are required.
    pub accounts: Vec<(String, String)>,
    /// The identity token that a POST may send.
    pub identity: Option<String>,
    /// The status that refuses a POST.
    pub post_refused: Option<u16>,
    /// The name of the field with the token.
    pub field: &'static str,
    /// The lifetime of tokens.
    pub lifetime: Duration,
    /// Whether the response has `expires_in`.
    pub says_lifetime: bool,
    /// Sent instead of a token.
    pub reply: Option<Reply>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            accounts: Vec::new(),
            identity: None,
            post_refused: None,
            field: "token",
            lifetime: Duration::from_secs(300),
            says_lifetime: true,
            reply: None,
        }
    }
}

/// One request for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub method: String,
    /// The user that signed in; empty for an anonymous request.
    pub user: String,
    pub fields: HashMap<String, String>,
}

impl Exchange {
    /// The scope, empty if there was none.
    pub fn scope(&self) -> &str {
        self.fields.get("scope").map_or("", String::as_str)
    }
}

#[derive(Debug)]
struct Grant {
    user: String,
    scope: String,
    ends: Instant,
}

#[derive(Debug, Default)]
struct State {
    rules: Rules,
    exchanges: Vec<Exchange>,
    grants: HashMap<String, Grant>,
}

/// A running token service. Its clones share its state.
#[derive(Clone)]
pub struct TokenServer {
    server: Arc<ScriptedRegistry>,
    state: Arc<Mutex<State>>,
}

impl TokenServer {
    pub async fn start(rules: Rules) -> Self {
        let state = State { rules, ..State::default() };
        let (server, state) = (ScriptedRegistry::start().await, Arc::new(Mutex::new(state)));
        server.otherwise({
            let state = Arc::clone(&state);
            move |request| Some(state.lock().unwrap().respond(request))
        });
        Self { server: Arc::new(server), state }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its origin, as in a registry's `token_realms`.
    pub fn origin(&self) -> rexd::client::Origin {
        format!("http://{}", self.address()).parse().unwrap()
    }

    /// A challenge that names this service, with the placeholder scope that some registries send.
    pub fn challenge(&self) -> String {
        let realm = format!("http://{}/token", self.address());
        format!(r#"Bearer realm="{realm}",service="test",scope="repository:user/image:pull""#)
    }

    pub fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.state.lock().unwrap().rules);
    }

    /// Invalidates all tokens issued so far.
    pub fn expire_all(&self) {
        self.state.lock().unwrap().grants.clear();
    }

    pub fn exchanges(&self) -> Vec<Exchange> {
        self.state.lock().unwrap().exchanges.clone()
    }

    /// All requests, with their headers.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }

    /// The user that a registry which requires `scope` serves; `None` if the request's `Authorization` is not valid for it.
    pub fn admits(&self, request: &Request, scope: &str) -> Option<String> {
        let token = request.header("authorization")?.strip_prefix("Bearer ")?;
        let state = self.state.lock().unwrap();
        let grant = state.grants.get(token)?;
        (grant.scope == scope && grant.ends > Instant::now()).then(|| grant.user.clone())
    }

    /// A registry that accepts this service's tokens and responds with [`content`].
    pub async fn registry(&self) -> ScriptedRegistry {
        let (registry, tokens) = (ScriptedRegistry::start().await, self.clone());
        registry.otherwise(move |request| {
            let Some(user) = tokens.admits(request, &scope_of(&request.target)) else {
                return Some(Reply::status(401).header("WWW-Authenticate", tokens.challenge()));
            };
            Some(content(&request.target, &user))
        });
        registry
    }
}

/// The scope that a request needs.
pub fn scope_of(target: &str) -> String {
    let path = target.split('?').next().unwrap();
    match path.strip_prefix("/v2/").unwrap() {
        "" => String::new(),
        "_catalog" => "registry:catalog:*".to_owned(),
        path => format!("repository:{}:pull", path.rsplitn(3, '/').nth(2).unwrap()),
    }
}

/// The content of a registry in these tests: one repository in its catalog, and one tag, which is the user's name.
pub fn content(target: &str, user: &str) -> Reply {
    let path = target.split('?').next().unwrap();
    if path == "/v2/" {
        Reply::json(&serde_json::json!({})).header("Docker-Distribution-API-Version", "registry/2.0")
    } else if path == "/v2/_catalog" {
        Reply::json(&serde_json::json!({"repositories": ["team/app"]}))
    } else if path.ends_with("/tags/list") {
        let tag = if user.is_empty() { "anonymous" } else { user };
        Reply::json(&serde_json::json!({"name": "any", "tags": [tag]}))
    } else {
        Reply::status(404)
    }
}

/// The user name and the password of a request's `Authorization: Basic`.
pub fn basic_of(request: &Request) -> Option<(String, String)> {
    let encoded = request.header("authorization")?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
    let (user, password) = decoded.split_once(':').unwrap();
    Some((user.to_owned(), password.to_owned()))
}

impl State {
    fn respond(&mut self, request: &Request) -> Reply {
        let query = request.target.split_once('?').map_or("", |(_, query)| query);
        let form = if request.method == "POST" { request.body.as_slice() } else { query.as_bytes() };
        let fields: HashMap<String, String> = form_urlencoded::parse(form).into_owned().collect();
        let basic = basic_of(request);
        let user = basic.as_ref().map_or("", |(user, _)| user.as_str());
        self.exchanges.push(Exchange {
            method: request.method.clone(),
            user: user.to_owned(),
            fields: fields.clone(),
        });
        if let Some(reply) = &self.rules.reply {
            return reply.clone();
        }
        let user = if request.method == "POST" {
            if let Some(status) = self.rules.post_refused {
                return Reply::status(status);
            }
            if self.rules.identity.is_none() || fields.get("refresh_token") != self.rules.identity.as_ref() {
                return Reply::status(401);
            }
            "identity".to_owned()
        } else {
            let taken = match &basic {
                Some(pair) => self.rules.accounts.contains(pair),
                None => self.rules.accounts.is_empty(),
            };
            if !taken {
                return Reply::status(401);
            }
            user.to_owned()
        };
        self.grant(user, fields.get("scope").cloned().unwrap_or_default())
    }

    fn grant(&mut self, user: String, scope: String) -> Reply {
        let token = format!("token-{:032x}", rand::random::<u128>());
        let ends = Instant::now() + self.rules.lifetime;
        self.grants.insert(token.clone(), Grant { user, scope, ends });
        let mut response = serde_json::json!({ self.rules.field: token });
        if self.rules.says_lifetime {
            response["expires_in"] = self.rules.lifetime.as_secs().into();
        }
        Reply::json(&response)
    }
}
