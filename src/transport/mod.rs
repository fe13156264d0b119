//! The only user of reqwest: sends a request to one registry – signed in, retried, redirected, guarded.
//!
//! `Upstream::send` reads top-down: sign in with what is known, send, look at the answer, sign in again when the answer
//! says something new. Below it, `Upstream::with_retries` decides about another try, `Upstream::follow` about
//! redirects, and `Upstream::exchange` is one exchange on the wire. What they decide by lives in one module each:
//!
//! - [`egress`]: where a request may go, and who may receive credentials;
//! - `credentials`, `docker_config`: what there is to show;
//! - `challenge`, `learned`, `scope`, `token`, `sign_in`: what the registry asks for, and the token protocol;
//! - `retry`, `rate_limit`, `failure`: what is worth another try, and when;
//! - `connect`: certificates, proxies, protocols; `answer`: bodies under limits.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, header};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tracing::Instrument as _;
use url::Url;

use self::{
    challenge::Challenge, connect::Clients, credentials::Credentials, egress::Guard, learned::Learned,
    retry::Pace, sign_in::SignIn, token::Tokens,
};
use crate::{
    error::{At, Missing, RexError, Wait},
    oci::{Registry, Repository},
};

mod answer;
mod challenge;
mod connect;
mod credentials;
mod docker_config;
pub mod egress;
mod failure;
mod learned;
mod rate_limit;
mod retry;
mod scope;
mod settings;
mod sign_in;
mod token;

pub(crate) use answer::{Answer, Body};
pub use challenge::AuthScheme;
pub(crate) use connect::Protocol;
pub(crate) use scope::Scope;
pub use settings::{ClientCertificate, CredentialSource, Proxy, Settings, SetupError};

/// Redirects followed for one request; storage behind a registry is one hop away, sometimes two.
const MAX_REDIRECTS: usize = 5;

/// The known pair: Docker Hub's tokens come from a host of its own.
const DOCKER_HUB_REALM: &str = "https://auth.docker.io";

/// A request of the Distribution API.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) scope: &'a Scope,
    /// Headers besides those that signing in adds.
    pub(crate) headers: HeaderMap,
    pub(crate) protocol: Protocol,
    /// The end of the caller's patience: waits that would pass it are not begun.
    pub(crate) deadline: Option<Instant>,
}

/// One registry: its connections, its sign-in, its pace.
#[derive(Debug)]
pub(crate) struct Upstream {
    settings: Settings,
    clients: Clients,
    guard: Guard,
    credentials: Credentials,
    learned: Learned,
    tokens: Tokens,
    pace: Pace,
    requests: Arc<Semaphore>,
}

impl Upstream {
    /// Reads every file the settings name; a file that cannot be used is an error that names it.
    pub(crate) fn new(settings: Settings) -> Result<Self, SetupError> {
        let fail = |problem: String| SetupError { registry: settings.registry.to_string(), problem };
        let origin = egress::Origin::of(&settings.url)
            .ok_or_else(|| fail("url: neither http nor https".to_owned()))?;
        let mut realms = settings.token_realms.clone();
        if settings.registry.is_docker_hub() {
            realms.extend(DOCKER_HUB_REALM.parse());
        }
        Ok(Self {
            clients: Clients::new(&settings)?,
            guard: Guard::new(origin, settings.listed, realms, settings.trusted_origins.clone()),
            credentials: Credentials::open(&settings.registry, &settings.credentials)?,
            learned: Learned::default(),
            tokens: Tokens::new(),
            pace: Pace::new(),
            requests: Arc::new(Semaphore::new(settings.max_concurrent_requests)),
            settings,
        })
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.settings.registry
    }

    /// `<url>/v2/`, the root of the API (OCI Distribution Specification, end-1).
    pub(crate) fn base(&self) -> Url {
        let mut base = self.settings.url.clone();
        if let Ok(mut path) = base.path_segments_mut() {
            path.pop_if_empty().push("v2").push("");
        }
        base
    }

    /// Where something of this registry happens.
    pub(crate) fn at(&self, repository: Option<&Repository>) -> At {
        At {
            registry: self.registry().to_string(),
            repository: repository.map(Repository::to_string),
            ..At::default()
        }
    }

    /// Sends a request, signed in. A 401 or 403 that no sign-in helps, and a 429 or 5xx that no retry helps, are errors;
    /// every other status is the operation's to read.
    pub(crate) async fn send(&self, request: &Request<'_>) -> Result<Answer, RexError> {
        let at = self.at(request.scope.repository());
        // Signing in asks the same registry, and knows no deadline.
        self.wait_while_paused(&at, request.deadline).await?;
        let mut sign_in = SignIn::begin(self, request.scope).await?;
        loop {
            let exchange = || self.follow(request, sign_in.authorization());
            let mut answer = self.with_retries(&at, request.deadline, exchange).await?;
            answer.scheme = sign_in.scheme();
            match answer.status().as_u16() {
                status @ (401 | 403) => {
                    // A registry that offers tokens is there; without credentials there is nothing more to find out.
                    if status == 401
                        && *request.scope == Scope::Ping
                        && sign_in.is_anonymous()
                        && let Some(challenge @ Challenge::Bearer(_)) = Challenge::preferred(answer.headers())
                    {
                        answer.scheme = challenge.scheme();
                        self.learned.note(challenge);
                        return Ok(answer);
                    }
                    let rejection = answer.rejection().await;
                    if !sign_in.answer_to(&rejection).await? {
                        return Err(rejection.into_error(Missing::Repository, ""));
                    }
                }
                429 | 500..=599 => return Err(answer.rejection().await.into_error(Missing::Repository, "")),
                _ => return Ok(answer),
            }
        }
    }

    /// Repeats `exchange` while another try may help, the budget has one, and the registry does not want to be left alone
    /// for longer than the caller can wait.
    async fn with_retries<F>(
        &self,
        at: &At,
        deadline: Option<Instant>,
        exchange: impl Fn() -> F,
    ) -> Result<Answer, RexError>
    where
        F: Future<Output = Result<Answer, RexError>>,
    {
        self.pace.deposit();
        let mut tries = 0;
        loop {
            tries += 1;
            self.wait_while_paused(at, deadline).await?;
            let outcome = exchange().await;
            let wait = match &outcome {
                Ok(answer) if answer.status().as_u16() == 429 => {
                    let Some(wait) = answer.retry_after() else {
                        return outcome;
                    };
                    if !answer.foreign {
                        self.pace.pause(wait);
                    }
                    wait
                }
                Ok(answer) if failure::is_transient_status(answer.status().as_u16()) => {
                    answer.retry_after().unwrap_or_else(|| retry::backoff(tries))
                }
                Err(error) if failure::is_transient(error) => retry::backoff(tries),
                Ok(_) | Err(_) => return outcome,
            };
            let too_late = deadline.is_some_and(|deadline| Instant::now() + wait >= deadline)
                || wait > retry::MAX_PATIENCE;
            if tries >= retry::MAX_TRIES || too_late || !self.pace.withdraw() {
                return outcome;
            }
            tracing::debug!(registry = %self.registry(), tries, ?wait, "trying again");
            drop(outcome);
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits until a registry that said `Retry-After` may be asked; an error at once when the caller cannot wait for that.
    async fn wait_while_paused(&self, at: &At, deadline: Option<Instant>) -> Result<(), RexError> {
        self.pace.wait(deadline).await.map_err(|left| RexError::RateLimit {
            at: At { http_status: Some(429), ..at.clone() },
            retry_after: Some(left),
        })
    }

    /// Sends to where the registry is, and on to where it points. What belongs to the registry – `Authorization`, the
    /// configured headers, the client certificate – goes to its own origin alone; the specification says MUST NOT to
    /// anything else. Once a hop has left that origin, none of it comes back: who is out there may not say what is read
    /// in the registry's name (as in the Fetch standard, HTTP-redirect fetch).
    async fn follow(
        &self,
        request: &Request<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, RexError> {
        let at = self.at(request.scope.repository());
        let permit = self.permit().await?;
        let mut url = request.url.clone();
        let mut own = true;
        for _ in 0..=MAX_REDIRECTS {
            let refuse = |problem| RexError::RegistryNotAllowed { at: at.clone(), problem };
            own &= self.guard.is_registry(&url);
            let admission = self.guard.admit(&url).map_err(refuse)?.of_chain(own);
            let mut hop = reqwest::Request::new(request.method.clone(), url.clone());
            hop.headers_mut().clone_from(&request.headers);
            // Encoded bytes are not what a digest is of.
            hop.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if own {
                hop.headers_mut().extend(self.settings.headers.clone());
                if let Some(value) = authorization {
                    hop.headers_mut().insert(header::AUTHORIZATION, value.clone());
                }
            }
            let mut answer = self.exchange(self.clients.get(admission, request.protocol), hop, &at).await?;
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                if !own {
                    // Nobody else may say where this registry's credentials go.
                    answer.response.headers_mut().remove(header::WWW_AUTHENTICATE);
                }
                (answer.permit, answer.foreign) = (Some(permit), !own);
                return Ok(answer);
            }
            let location = answer
                .header(header::LOCATION)
                .and_then(|location| url.join(location).ok())
                .map(without_user);
            let next = location.ok_or_else(|| answer.invalid("a redirect without a usable Location"))?;
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(refuse("a redirect from https to http is not followed".to_owned()));
            }
            url = next;
        }
        Err(RexError::Validation { at, problem: format!("more than {MAX_REDIRECTS} redirects") })
    }

    /// One exchange on the wire, up to the head of the answer.
    async fn exchange(
        &self,
        client: &reqwest::Client,
        hop: reqwest::Request,
        at: &At,
    ) -> Result<Answer, RexError> {
        let (connect, idle) = (self.settings.connect_timeout, self.settings.idle_timeout);
        let span = tracing::info_span!(
            "upstream",
            otel.kind = "client",
            http.request.method = %hop.method(),
            url = %loggable(hop.url()),
            http.response.status_code = tracing::field::Empty,
        );
        let began = Instant::now();
        let limit = self.settings.header_timeout;
        let sent = tokio::time::timeout(limit, client.execute(hop)).instrument(span.clone()).await;
        let response = sent
            .map_err(|_| RexError::Timeout { at: at.clone(), wait: Wait::Headers, limit })?
            .map_err(|error| failure::of(error, at.clone(), connect, idle))?;
        span.record("http.response.status_code", response.status().as_u16());
        rate_limit::note(self.registry().as_str(), response.headers());
        Ok(Answer {
            response,
            at: at.clone(),
            scheme: AuthScheme::None,
            elapsed: began.elapsed(),
            limits: answer::Limits { connect, idle, error_bytes: self.settings.auth_body_bytes },
            permit: None,
            foreign: false,
        })
    }

    /// A place among the requests that this registry may have under way.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, RexError> {
        let patience = self.settings.header_timeout;
        let overloaded = || RexError::Overloaded {
            problem: format!("max_concurrent_requests to {} are under way", self.registry()),
            retry_after: Duration::from_secs(1),
        };
        let permit = tokio::time::timeout(patience, Arc::clone(&self.requests).acquire_owned()).await;
        permit.map_err(|_| overloaded())?.map_err(|_| overloaded())
    }

    /// Asks `/v2/` what the registry wants, once for all who do not know it.
    async fn learn_challenge(&self) -> Result<Option<Challenge>, RexError> {
        self.learned.ask(self.ask_for_challenge()).await
    }

    async fn ask_for_challenge(&self) -> Result<Option<Challenge>, RexError> {
        let at = self.at(None);
        let request = Request {
            method: Method::GET,
            url: self.base(),
            scope: &Scope::Ping,
            headers: HeaderMap::new(),
            protocol: Protocol::Any,
            deadline: None,
        };
        let answer = self.with_retries(&at, None, || self.follow(&request, None)).await?;
        Ok(Challenge::preferred(answer.headers()).filter(|_| answer.status().as_u16() == 401))
    }
}

/// Waits as before another try of a request that failed `tries` times.
pub(crate) async fn pause_before_try(tries: u32) {
    tokio::time::sleep(retry::backoff(tries)).await;
}

/// A URL as it may be logged: a presigned one has secrets in its query.
fn loggable(url: &Url) -> Url {
    let mut bare = url.clone();
    bare.set_query(None);
    bare
}

/// A URL as it may be followed. User information is not sent, but libraries log it with the host; a fragment never is.
fn without_user(mut url: Url) -> Url {
    url.set_fragment(None);
    // These fail for URLs that cannot have any.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}
