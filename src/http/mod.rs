//! One guarded, paced exchange with a registry. The only user of reqwest.
//!
//! `Transport::send` takes a permit, sends the request, follows redirects and retries.
//! Each step is a file:
//!
//! | file | what it does |
//! |---|---|
//! | `transport` | runs all steps for one registry |
//! | `call`, `share`, `permits` | what the requests of one call share; how many run at once, fairly among callers |
//! | `retry`, `retry_after`, `pace` | decide whether to retry; keep the retry budget and the pause that a 429 requests |
//! | `redirect` | follows redirects, and keeps credentials at the registry's origin |
//! | `request`, `wire` | send one request, and receive the head of its response |
//! | `settings`, `connect` | certificates, proxies and protocols: the reqwest clients |
//! | [`mod@egress`] | decides which URLs may be requested, and which may receive credentials |
//! | `response`, `body`, `error_response` | read the response, within limits |
//! | `large_work` | parses large bodies off the runtime's threads |
//! | `failure` | converts reqwest's errors |
//! | `fleet` | what other replicas know of this registry: pauses, and the budget of all |
//! | `rate_limit` | logs how many requests a registry's rate limit still allows |
//!
//! It knows nothing of signing in: `auth` decides what to send as `Authorization`.

mod body;
mod call;
mod connect;
pub mod egress;
mod error_response;
mod failure;
mod fleet;
mod large_work;
mod pace;
mod permits;
mod rate_limit;
mod redirect;
mod request;
mod response;
mod retry;
mod retry_after;
mod settings;
mod share;
mod transport;
mod wire;

pub(crate) use body::{Body, LEAST_RATE};
pub use call::{CallContext, RequestCount};
pub(crate) use egress::Trust;
pub(crate) use error_response::ErrorResponse;
pub use fleet::{BudgetedRequest, FleetPermit, FleetSettings, SharedBudget, SharedPauses};
pub(crate) use pace::Pace;
pub(crate) use request::{Bound, Protocol, Request, TokenRequest};
pub(crate) use response::Response;
pub(crate) use retry::wait_before_try;
pub use settings::{ClientCertificate, Proxy, Settings, SetupError};
pub use share::Share;
pub(crate) use transport::Transport;
