//! The egress guard: where a request may go, and who may receive credentials.
//!
//! The guard decides two questions about every URL before anything is sent to it, redirect targets and token realms
//! included:
//!
//! 1. May the service connect to it? An origin from the configuration (the registry's own, `token_realms`,
//!    `trusted_origins`) may have a private address. Every other origin must use https and have public addresses only.
//!    The addresses of cloud metadata services are always refused, even when the configuration names them.
//! 2. May it receive the registry's credentials? Only the registry's own origin, its known token service, and
//!    `token_realms` may. The guard infers nothing from domain suffixes (CVE-2026-33540, CVE-2026-48978).
//!
//! `guard` checks literal addresses on the parsed host, because they never reach the resolver. By then the WHATWG URL
//! parser has turned `2130706433`, `127.1` and `0x7f.1` into addresses. `resolver` checks names: it filters every
//! address that the system resolver returns. `lookups` bounds how many lookups are in progress.

mod address;
mod guard;
mod lookups;
mod origin;
mod resolver;

pub use address::AddressClass;
pub(super) use guard::Guard;
pub(crate) use guard::Trust;
#[cfg(test)]
pub(super) use lookups::{Bound, SystemResolver};
pub(super) use lookups::{LookupError, Lookups};
pub use origin::Origin;
pub(super) use resolver::{AddressRefused, GuardedResolver};
