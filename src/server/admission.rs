//! Limits on open connections, in total and for each peer.
//!
//! A connection over a limit is accepted and closed at once rather than left in the kernel's queue. Its caller can then
//! try another replica, and idle connections of one peer never keep others from being accepted. The peer is only known
//! after accept anyway.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts the open connections. The map has entries only for peers with an open connection, so the total limit bounds it.
#[derive(Debug)]
pub(super) struct Admission {
    max: usize,
    max_per_peer: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_peer: HashMap<IpAddr, usize>,
}

/// Why a connection was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitReached {
    /// `max_connections` are open.
    Full,
    /// The peer has `max_connections_per_peer` open.
    PeerFull,
}

/// Counts for one open connection until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    admission: Arc<Admission>,
    peer: IpAddr,
}

impl Admission {
    pub(super) fn new(max: usize, max_per_peer: usize) -> Arc<Self> {
        Arc::new(Self { max, max_per_peer, open: Mutex::default() })
    }

    /// Counts a connection from `address`, or returns the limit that is reached.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<ConnectionPermit, LimitReached> {
        let peer = peer_of(address);
        let mut open = self.lock();
        if open.total >= self.max {
            return Err(LimitReached::Full);
        }
        let of_peer = open.by_peer.get(&peer).copied().unwrap_or(0);
        if of_peer >= self.max_per_peer {
            return Err(LimitReached::PeerFull);
        }
        open.total += 1;
        open.by_peer.insert(peer, of_peer + 1);
        Ok(ConnectionPermit { admission: Arc::clone(self), peer })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.admission.lock();
        open.total = open.total.saturating_sub(1);
        if let Some(of_peer) = open.by_peer.get_mut(&self.peer) {
            *of_peer = of_peer.saturating_sub(1);
            if *of_peer == 0 {
                open.by_peer.remove(&self.peer);
            }
        }
    }
}

/// The peer that an address belongs to: the IPv4 address, also when it is mapped into IPv6, or the /64 of an IPv6
/// address, because one host can use any address of its /64 (RFC 8981).
pub(super) fn peer_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|_| unreachable!("an address: {text}"))
    }

    #[test]
    fn one_peer_is_capped_and_others_are_not() {
        let admission = Admission::new(10, 1);
        let first = admission.admit(ip("192.0.2.1"));
        assert!(first.is_ok());
        assert_eq!(admission.admit(ip("::ffff:192.0.2.1")).err(), Some(LimitReached::PeerFull));
        assert!(admission.admit(ip("192.0.2.2")).is_ok());
        drop(first);
        assert!(admission.admit(ip("192.0.2.1")).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_peer() {
        let admission = Admission::new(10, 1);
        let _first = admission.admit(ip("2001:db8:0:1::1"));
        assert_eq!(admission.admit(ip("2001:db8:0:1:ffff::2")).err(), Some(LimitReached::PeerFull));
        assert!(admission.admit(ip("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn the_map_is_empty_when_all_connections_are_closed() {
        let admission = Admission::new(2, 2);
        let tickets = [admission.admit(ip("192.0.2.1")), admission.admit(ip("192.0.2.2"))];
        assert_eq!(admission.admit(ip("192.0.2.3")).err(), Some(LimitReached::Full));
        drop(tickets);
        assert!(admission.lock().by_peer.is_empty());
        assert_eq!(admission.lock().total, 0);
    }
}
