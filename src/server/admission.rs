//! How many connections may be open, in all and for each peer.
//!
//! A connection over a cap is closed at once rather than left in the kernel's queue: its caller learns now that it must
//! go to another replica, the cap of one peer can be told only after accept anyway, and idle connections of one peer
//! never stop the others from being accepted.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts the open connections; the map holds an entry only for peers with one open, so the total cap bounds it.
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
pub(super) enum Refused {
    /// `max_connections` are open.
    Full,
    /// The peer has `max_connections_per_peer` open.
    PeerFull,
}

/// One open connection; dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Arc<Admission>,
    peer: IpAddr,
}

impl Admission {
    pub(super) fn new(max: usize, max_per_peer: usize) -> Arc<Self> {
        Arc::new(Self { max, max_per_peer, open: Mutex::default() })
    }

    /// Counts a connection from `address`, or says which cap it would pass.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Ticket, Refused> {
        let peer = peer_of(address);
        let mut open = self.lock();
        if open.total >= self.max {
            return Err(Refused::Full);
        }
        let of_peer = open.by_peer.get(&peer).copied().unwrap_or(0);
        if of_peer >= self.max_per_peer {
            return Err(Refused::PeerFull);
        }
        open.total += 1;
        open.by_peer.insert(peer, of_peer + 1);
        Ok(Ticket { admission: Arc::clone(self), peer })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
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

/// The peer an address counts for: IPv4 as it is, also when mapped into IPv6, and the /64 of IPv6, of which one host can
/// take any address (RFC 8981).
fn peer_of(address: IpAddr) -> IpAddr {
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
        assert_eq!(admission.admit(ip("::ffff:192.0.2.1")).err(), Some(Refused::PeerFull));
        assert!(admission.admit(ip("192.0.2.2")).is_ok());
        drop(first);
        assert!(admission.admit(ip("192.0.2.1")).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_peer() {
        let admission = Admission::new(10, 1);
        let _first = admission.admit(ip("2001:db8:0:1::1"));
        assert_eq!(admission.admit(ip("2001:db8:0:1:ffff::2")).err(), Some(Refused::PeerFull));
        assert!(admission.admit(ip("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn the_map_is_empty_when_all_are_gone() {
        let admission = Admission::new(2, 2);
        let tickets = [admission.admit(ip("192.0.2.1")), admission.admit(ip("192.0.2.2"))];
        assert_eq!(admission.admit(ip("192.0.2.3")).err(), Some(Refused::Full));
        drop(tickets);
        assert!(admission.lock().by_peer.is_empty());
        assert_eq!(admission.lock().total, 0);
    }
}
