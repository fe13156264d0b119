//! Who calls: what a call shows – a token or a certificate – makes it one of the configured callers, or nobody.
//!
//! Without configured callers, everybody who can connect is one and the same. With them, what a call shows is all that
//! counts: it must be of exactly one caller, a token that is wrong is refused even beside a good certificate, and who shows
//! nothing is refused unless the operator named a caller for that.
//!
//! Finding out is all that happens here; what the caller may do is the policy's.

mod certificate;
mod tokens;

use std::{collections::BTreeSet, path::PathBuf};

use rustls::pki_types::CertificateDer;

use self::tokens::{Presented, Tokens};
use crate::{error::RexError, policy::Caller, reloaded_file::ReloadedFile};

/// How a caller is known.
#[derive(Debug, Clone)]
pub enum Identity {
    /// By a token in `authorization: Bearer`, which stands on a line of this file.
    TokenFile(PathBuf),
    /// By a verified certificate with one of these DNS names or URIs as subject alternative name.
    CertificateNames(BTreeSet<String>),
    /// By showing nothing that says otherwise.
    Anonymous,
}

/// What a call shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown<'a> {
    /// The value of `authorization`; of several, the first.
    pub authorization: Option<&'a [u8]>,
    /// The client certificate, which the listener has verified.
    pub certificate: Option<&'a CertificateDer<'static>>,
}

/// Who may call.
#[derive(Debug)]
pub enum Callers {
    /// Everybody who can connect, as this caller: nobody is asked who they are.
    Anybody(Caller),
    /// The callers of the configuration, and nobody else.
    Known(Known),
}

/// The callers of the configuration.
#[derive(Debug)]
pub struct Known(Vec<(Caller, Evidence)>);

/// What makes a call a caller's.
#[derive(Debug)]
enum Evidence {
    Tokens(ReloadedFile<Tokens>),
    CertificateNames(BTreeSet<String>),
    Nothing,
}

impl Callers {
    /// Everybody who can connect, and may read whatever the service may.
    #[must_use]
    pub fn anybody() -> Self {
        Self::Anybody(Caller::anybody())
    }

    /// These callers and nobody else.
    ///
    /// # Errors
    ///
    /// A sentence for every caller whose file of tokens cannot be used, or who cannot be told from another.
    pub fn known(callers: impl IntoIterator<Item = (Caller, Identity)>) -> Result<Self, Vec<String>> {
        let (mut known, mut problems) = (Vec::<(Caller, Evidence)>::new(), Vec::new());
        for (caller, identity) in callers {
            match Evidence::of(identity) {
                Ok(evidence) => {
                    let same = known.iter().find(|(_, other)| evidence.is_shared_with(other));
                    problems.extend(same.map(|(other, _)| {
                        format!("callers.{}: shows the same as {}", caller.name(), other.name())
                    }));
                    known.push((caller, evidence));
                }
                Err(problem) => problems.push(format!("callers.{}: {problem}", caller.name())),
            }
        }
        if problems.is_empty() { Ok(Self::Known(Known(known))) } else { Err(problems) }
    }

    /// The caller that shows this.
    ///
    /// # Errors
    ///
    /// [`RexError::CallerUnknown`], which says what to show instead.
    pub async fn identify(&self, shown: Shown<'_>) -> Result<Caller, RexError> {
        match self {
            Self::Anybody(caller) => Ok(caller.clone()),
            Self::Known(known) => known.identify(shown).await,
        }
    }
}

impl Known {
    async fn identify(&self, shown: Shown<'_>) -> Result<Caller, RexError> {
        let presented = shown.authorization.map(Presented::of).transpose().map_err(refuse)?;
        let names = shown.certificate.map(certificate::names).unwrap_or_default();
        let (mut found, mut anonymous) = (None, None);
        for (caller, evidence) in &self.0 {
            let is_it = match evidence {
                Evidence::Tokens(file) => match &presented {
                    Some(token) => file.get().await.hold(token),
                    None => false,
                },
                Evidence::CertificateNames(accepted) => {
                    presented.is_none() && names.iter().any(|name| accepted.contains(*name))
                }
                Evidence::Nothing => {
                    anonymous = Some(caller);
                    false
                }
            };
            if is_it && found.replace(caller).is_some() {
                tracing::warn!(
                    "what a call shows is of more than one caller of the configuration; it is refused"
                );
                return Err(refuse(
                    "what the call shows is of more than one caller; the operator must tell them apart",
                ));
            }
        }
        match (found, presented, anonymous) {
            (Some(caller), ..) | (None, None, Some(caller)) => Ok(caller.clone()),
            (None, Some(_), _) => Err(refuse("the token is not known here")),
            (None, None, None) => Err(refuse(
                "the service wants to know who calls; send the caller's token as `authorization: Bearer …`, or a \
                 certificate that names a caller",
            )),
        }
    }
}

impl Evidence {
    /// Whether something makes a call both callers'.
    fn is_shared_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tokens(a), Self::Tokens(b)) => a.last().share_one_with(&b.last()),
            (Self::CertificateNames(a), Self::CertificateNames(b)) => !a.is_disjoint(b),
            (Self::Nothing, Self::Nothing) => true,
            _ => false,
        }
    }

    fn of(identity: Identity) -> Result<Self, String> {
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
