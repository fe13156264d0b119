//! One budget for the memory that callers and registries make the service hold: requests that arrive, documents that are
//! read from registries, responses until their bytes have left, streams.
//!
//! A call reserves bytes before the service holds something for it, and is refused if the budget has none left. No peer address
//! and no caller gets all of the budget, so that one of them cannot shut out the others.
//!
//! The bytes are estimates. They count what grows with the number and size of requests; the process itself, its connections and
//! what the allocator keeps come on top of them.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;

use crate::error::RexError;

/// Reservations live for the time of a call, most of them for milliseconds.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A reservation takes at most this fraction of the least of its limits. A call makes up to three: for itself, for a document that it
/// reads, and for its response. So a call whose document is larger than the budget is served when nothing else is; otherwise it
/// would always be refused.
const RESERVATIONS_OF_A_CALL: usize = 4;

/// How many bytes may be reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimits {
    /// For all peers together.
    pub total: usize,
    /// For one peer address.
    pub per_peer: usize,
    /// For one caller.
    pub per_caller: usize,
}

/// The budget. Its clones are the same budget.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    limits: MemoryLimits,
    reserved: AtomicUsize,
    /// The peers with an open connection, and the callers with a running call.
    owners: Mutex<HashMap<OwnerKey, Weak<Owner>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum OwnerKey {
    Peer(IpAddr),
    Caller(String),
}

/// The bytes that are reserved for one peer or one caller.
#[derive(Debug)]
struct Owner {
    key: OwnerKey,
    reserved: AtomicUsize,
    budget: Arc<Budget>,
}

/// Reserves memory on behalf of a peer, and of a caller once it is known. Its clones are the same account.
#[derive(Debug, Clone)]
pub struct MemoryAccount(Arc<Account>);

#[derive(Debug)]
struct Account {
    budget: Arc<Budget>,
    peer: Option<Arc<Owner>>,
    caller: Option<Arc<Owner>>,
}

/// Reserved bytes. Dropping it gives them back.
#[derive(Debug)]
#[must_use]
pub struct Reservation {
    account: MemoryAccount,
    bytes: usize,
}

impl MemoryBudget {
    /// A budget of which nothing is reserved.
    #[must_use]
    pub fn new(limits: MemoryLimits) -> Self {
        Self(Arc::new(Budget { limits, reserved: AtomicUsize::new(0), owners: Mutex::default() }))
    }

    /// An account that only the total limits, for calls that no peer and no caller makes.
    #[must_use]
    pub fn account(&self) -> MemoryAccount {
        self.account_of(None)
    }

    /// The account of a peer. All accounts of one address share its limit.
    #[must_use]
    pub fn peer_account(&self, address: IpAddr) -> MemoryAccount {
        self.account_of(Some(self.0.owner(OwnerKey::Peer(address))))
    }

    fn account_of(&self, peer: Option<Arc<Owner>>) -> MemoryAccount {
        MemoryAccount(Arc::new(Account { budget: Arc::clone(&self.0), peer, caller: None }))
    }

    /// How many bytes are reserved now.
    #[must_use]
    pub fn reserved(&self) -> usize {
        self.0.reserved.load(Relaxed)
    }
}

impl Budget {
    fn owner(self: &Arc<Self>, key: OwnerKey) -> Arc<Owner> {
        let mut owners = self.owners();
        if let Some(owner) = owners.get(&key).and_then(Weak::upgrade) {
            return owner;
        }
        let owner =
            Arc::new(Owner { key: key.clone(), reserved: AtomicUsize::new(0), budget: Arc::clone(self) });
        owners.insert(key, Arc::downgrade(&owner));
        owner
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<OwnerKey, Weak<Owner>>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut owners = self.budget.owners();
        // Another owner with the same key may have been made in the meantime.
        if owners.get(&self.key).is_some_and(|owner| owner.strong_count() == 0) {
            owners.remove(&self.key);
        }
    }
}

impl MemoryAccount {
    /// The account of a caller at this account's peer. All accounts of one caller share its limit.
    #[must_use]
    pub fn with_caller(&self, name: &str) -> Self {
        let Account { budget, peer, .. } = &*self.0;
        let caller = Some(budget.owner(OwnerKey::Caller(name.to_owned())));
        Self(Arc::new(Account { budget: Arc::clone(budget), peer: peer.clone(), caller }))
    }

    /// Reserves bytes.
    ///
    /// # Errors
    /// [`RexError::Overloaded`] if the budget does not have them.
    pub fn reserve(&self, bytes: usize) -> Result<Reservation, RexError> {
        let mut reservation = Reservation { account: self.clone(), bytes: 0 };
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// For each limit: the reserved bytes, the limit, and for whom it is.
    fn counters(&self) -> impl Iterator<Item = (&AtomicUsize, usize, &'static str)> {
        let Account { budget, peer, caller } = &*self.0;
        let limits = budget.limits;
        let peer = peer.iter().map(move |owner| (&owner.reserved, limits.per_peer, "one peer address"));
        let caller = caller.iter().map(move |owner| (&owner.reserved, limits.per_caller, "one caller"));
        std::iter::once((&budget.reserved, limits.total, "all callers")).chain(peer).chain(caller)
    }
}

impl Reservation {
    /// Reserves more bytes, as far as the reservation may grow. Those that are reserved already stay reserved when it fails.
    ///
    /// # Errors
    /// [`RexError::Overloaded`] if the budget does not have them.
    pub fn grow(&mut self, bytes: usize) -> Result<(), RexError> {
        let least = self.account.counters().map(|(_, limit, _)| limit).min().unwrap_or_default();
        let bytes = bytes.min((least / RESERVATIONS_OF_A_CALL).saturating_sub(self.bytes));
        for (taken, (reserved, limit, whose)) in self.account.counters().enumerate() {
            let within = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= limit);
            if reserved.fetch_update(Relaxed, Relaxed, within).is_err() {
                self.account.counters().take(taken).for_each(|(reserved, ..)| {
                    reserved.fetch_sub(bytes, Relaxed);
                });
                return Err(RexError::Overloaded {
                    problem: format!("the calls of {whose} hold all of their {limit} bytes of memory"),
                    retry_after: RETRY_AFTER,
                });
            }
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.account.counters().for_each(|(reserved, ..)| {
            reserved.fetch_sub(self.bytes, Relaxed);
        });
    }
}

/// The same bytes; they keep `permit` until the last reference to them is dropped, in hyper and h2 as well as here.
pub(crate) fn bytes_with_permit<P: Send + Sync + 'static>(data: Bytes, permit: P) -> Bytes {
    Bytes::from_owner(BytesWithPermit { data, _permit: permit })
}

struct BytesWithPermit<P> {
    data: Bytes,
    _permit: P,
}

impl<P> AsRef<[u8]> for BytesWithPermit<P> {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const LIMITS: MemoryLimits = MemoryLimits { total: 1000, per_peer: 600, per_caller: 400 };

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Reserves this many bytes, a hundred at a time.
    fn take(account: &MemoryAccount, bytes: usize) -> Vec<Reservation> {
        (0..bytes / 100).map(|_| account.reserve(100).unwrap()).collect()
    }

    #[test]
    fn no_peer_takes_what_another_may_have() {
        let budget = MemoryBudget::new(LIMITS);
        let (one, other) = (budget.peer_account(peer(1)), budget.peer_account(peer(2)));
        let _first = take(&one, 600);
        let refused = budget.peer_account(peer(1)).reserve(1).unwrap_err();
        assert!(refused.to_string().contains("one peer address hold all of their 600 bytes"), "{refused}");
        let _second = take(&other, 400);
        let refused = other.reserve(1).unwrap_err();
        assert!(refused.to_string().contains("all callers hold all of their 1000 bytes"), "{refused}");
    }

    #[test]
    fn a_caller_has_one_limit_at_all_its_addresses() {
        let budget = MemoryBudget::new(LIMITS);
        let build = [1, 2].map(|last| budget.peer_account(peer(last)).with_caller("build"));
        let _reservations = build.each_ref().map(|account| take(account, 200));
        assert!(build.iter().all(|account| account.reserve(1).is_err()));
        assert!(budget.peer_account(peer(1)).with_caller("deploy").reserve(100).is_ok());
    }

    #[test]
    fn a_refusal_reserves_nothing_and_a_drop_gives_everything_back() {
        let budget = MemoryBudget::new(LIMITS);
        let account = budget.peer_account(peer(1)).with_caller("build");
        let most = (take(&account, 300), account.reserve(20).unwrap());
        let mut reservation = account.reserve(50).unwrap();
        reservation.grow(20).unwrap();
        assert!(reservation.grow(11).is_err());
        assert_eq!(budget.reserved(), 390);
        drop((most, reservation));
        assert_eq!(budget.reserved(), 0);
        drop(take(&account, 400));
    }

    #[test]
    fn one_reservation_takes_at_most_a_quarter() {
        let account = MemoryBudget::new(LIMITS).peer_account(peer(1));
        let mut reservation = account.reserve(100).unwrap();
        reservation.grow(usize::MAX).unwrap();
        reservation.grow(1).unwrap();
        assert_eq!(reservation.bytes, 150);
    }

    #[test]
    fn the_budget_forgets_owners_without_an_account() {
        let budget = MemoryBudget::new(LIMITS);
        let account = budget.peer_account(peer(1)).with_caller("build");
        let reservation = account.reserve(1).unwrap();
        drop(account);
        assert_eq!(budget.0.owners().len(), 2, "the reservation is still theirs");
        drop(reservation);
        assert!(budget.0.owners().is_empty());
    }
}
