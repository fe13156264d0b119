//! Signing in to a registry: challenges, credentials, tokens.
//!
//! [`SignIn`](sign_in::SignIn) decides for one call; what all calls to a registry share is its
//! [`Authenticator`](authenticator::Authenticator). It asks the network through `http::Transport`, which is handed to it:
//! once for the challenge of `/v2/`, and once for each token.
//!
//! | file | what it holds |
//! |---|---|
//! | `sign_in` | what to send with a request, and after a 401 or 403 |
//! | `authenticator` | what the calls to one registry share |
//! | `challenge`, `challenge_cache` | what a registry asks for (RFC 9110 section 11.6.1), and what it asked for last |
//! | `scope` | what a token is for |
//! | `credentials`, `credential`, `docker_config` | where credentials come from, and which one is for a repository |
//! | `token`, `token_service` | tokens, and the exchange with the token service |
//!
//! Sign-in for a cloud is a new source of credentials: a file beside `docker_config`, and a variant of
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
pub use credentials::CredentialSource;
pub(crate) use scope::Scope;
pub(crate) use sign_in::SignIn;
