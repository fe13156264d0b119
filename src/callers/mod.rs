//! Identifies who makes a call, from its bearer token or its client certificate, and enforces the caller's own limits.
//!
//! Without configured callers, every call has the same caller, [`Caller::anybody`]. With them, a call's credentials must
//! match exactly one caller. A call with an unknown token is refused even if its certificate is known. A call without
//! credentials is refused unless the configuration has an anonymous caller.
//!
//! [`crate::policy`] decides what the caller may read, and holds the values of its limits.

mod certificate;
mod limiter;
mod token_bucket;
mod tokens;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use rustls::pki_types::CertificateDer;

pub use self::limiter::{CallKind, CallerLimiter, CallerPermit};
use self::tokens::{PresentedToken, Tokens};
use crate::{error::RexError, policy::Caller, reloaded_file::ReloadedFile};

/// How calls of a caller are identified.
#[derive(Debug, Clone)]
pub enum Identity {
    /// By a token in `authorization: Bearer` that is a line of this file.
    TokenFile(PathBuf),
    /// By a verified certificate with one of these DNS names or URIs as subject alternative name.
    CertificateNames(BTreeSet<String>),
    /// By having neither a token nor a certificate of a configured caller.
    Anonymous,
}

/// The credentials that came with a call.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallCredentials<'a> {
    /// The value of `authorization`; of several, the first.
    pub authorization: Option<&'a [u8]>,
    /// The client certificate, verified by the listener.
    pub certificate: Option<&'a CertificateDer<'static>>,
}

/// Who may call.
#[derive(Debug)]
pub enum Callers {
    /// Every call has this caller; no credentials are required.
    Anybody(Caller),
    /// Only the configured callers may call.
    Known(KnownCallers),
}

/// The configured callers.
#[derive(Debug)]
pub struct KnownCallers(Vec<(Identified, Proof)>);

/// The caller of a call.
#[derive(Debug, Clone)]
pub struct Identified {
    /// Who it is, and what it may read.
    pub caller: Caller,
    /// Enforces its limits over all of its calls; `None` for a caller without limits.
    pub limiter: Option<Arc<CallerLimiter>>,
}

impl From<Caller> for Identified {
    fn from(caller: Caller) -> Self {
        Self { limiter: CallerLimiter::of(&caller), caller }
    }
}

/// What identifies a call as one from a caller.
#[derive(Debug)]
enum Proof {
    Tokens(ReloadedFile<Tokens>),
    CertificateNames(BTreeSet<String>),
    Nothing,
}

impl Callers {
    /// Every call is accepted, and may read everything that the service may.
    #[must_use]
    pub fn anybody() -> Self {
        Self::Anybody(Caller::anybody())
    }

    /// Only these callers may call.
    ///
    /// # Errors
    ///
    /// One sentence for each caller whose token file cannot be used, or whose credentials are also those of another caller.
    pub fn known(callers: impl IntoIterator<Item = (Caller, Identity)>) -> Result<Self, Vec<String>> {
        let (mut known, mut problems) = (Vec::<(Identified, Proof)>::new(), Vec::new());
        for (caller, identity) in callers {
            match Proof::new(identity) {
                Ok(proof) => {
                    let same = known.iter().find(|(_, other)| proof.matches_same_call_as(other));
                    problems.extend(same.map(|(other, _)| {
                        let other = other.caller.name();
                        format!("callers.{}: has the same credentials as {other}", caller.name())
                    }));
                    known.push((caller.into(), proof));
                }
                Err(problem) => problems.push(format!("callers.{}: {problem}", caller.name())),
            }
        }
        if problems.is_empty() { Ok(Self::Known(KnownCallers(known))) } else { Err(problems) }
    }

    /// The caller that these credentials belong to.
    ///
    /// # Errors
    ///
    /// [`RexError::CallerUnknown`], whose message says which credentials to send.
    pub async fn identify(&self, credentials: CallCredentials<'_>) -> Result<Identified, RexError> {
        match self {
            Self::Anybody(caller) => Ok(Identified { caller: caller.clone(), limiter: None }),
            Self::Known(known) => known.identify(credentials).await,
        }
    }
}

impl KnownCallers {
    async fn identify(&self, credentials: CallCredentials<'_>) -> Result<Identified, RexError> {
        let presented = credentials.authorization.map(PresentedToken::parse).transpose().map_err(refuse)?;
        let names = credentials.certificate.map(certificate::names).unwrap_or_default();
        let (mut found, mut anonymous) = (None, None);
        for (caller, proof) in &self.0 {
            let matches = match proof {
                Proof::Tokens(file) => match &presented {
                    Some(token) => file.get().await.contains(token),
                    None => false,
                },
                Proof::CertificateNames(accepted) => {
                    presented.is_none() && names.iter().any(|name| accepted.contains(*name))
                }
                Proof::Nothing => {
                    anonymous = Some(caller);
                    false
                }
            };
            if matches && found.replace(caller).is_some() {
                tracing::warn!(
                    "a call was refused: its credentials belong to more than one configured caller"
                );
                return Err(refuse(
                    "the credentials belong to more than one caller; the operator must give each caller its own",
                ));
            }
        }
        match (found, presented, anonymous) {
            (Some(caller), ..) | (None, None, Some(caller)) => Ok(caller.clone()),
            (None, Some(_), _) => Err(refuse("the token does not belong to any caller of this service")),
            (None, None, None) => Err(refuse(
                "the call has no credentials; send the caller's token as `authorization: Bearer …`, or use a client \
                 certificate that names a caller",
            )),
        }
    }
}

impl Proof {
    /// Whether one call could match both.
    fn matches_same_call_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tokens(a), Self::Tokens(b)) => a.last().overlaps(&b.last()),
            (Self::CertificateNames(a), Self::CertificateNames(b)) => !a.is_disjoint(b),
            (Self::Nothing, Self::Nothing) => true,
            _ => false,
        }
    }

    fn new(identity: Identity) -> Result<Self, String> {
        Ok(match identity {
            Identity::TokenFile(path) => {
                let file = ReloadedFile::open(&path, Tokens::parse)?;
                if let Some(problem) = file.last().problem() {
                    return Err(format!("{}: {problem}", path.display()));
                }
                Self::Tokens(file)
            }
            Identity::CertificateNames(names) => Self::CertificateNames(names),
            Identity::Anonymous => Self::Nothing,
        })
    }
}

fn refuse(problem: impl Into<String>) -> RexError {
    RexError::CallerUnknown { problem: problem.into() }
}
