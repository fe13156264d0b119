//! Signing in to a registry: challenges, credentials, tokens.
//!
//! A `SignIn` decides for one call what to send. All calls to a registry share its
//! `Authenticator`, which requests the challenge of `/v2/` and the tokens. It is given an
//! `http::Transport` for these requests and has no other access to the network.
//!
//! | file | what it holds |
//! |---|---|
//! | `sign_in` | what to send with a request, and after a 401 or 403 |
//! | `authenticator` | the state that all calls to one registry share |
//! | `challenge`, `challenge_cache` | challenges (RFC 9110 section 11.6.1), and the last one of each kind of scope |
//! | `scope` | the access that a token grants |
//! | `credentials`, `credential`, `docker_config` | sources of credentials, and the choice of one for a repository |
//! | `token`, `token_service` | tokens, and the exchange with the token service |
//!
//! Sign-in for a cloud is a new source of credentials: a file next to `docker_config`, and a variant of
//! [`CredentialSource`].

mod authenticator;
mod challenge;
mod challenge_cache;
mod credential;
mod credentials;
mod docker_config;
mod scope;
mod sign_in;
mod token;
mod token_service;

pub(crate) use authenticator::Authenticator;
pub use challenge::AuthScheme;
pub(crate) use challenge::Challenge;
pub use credential::CredentialId;
pub use credentials::CredentialSource;
pub(crate) use scope::Scope;
pub(crate) use sign_in::SignIn;
