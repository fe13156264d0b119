//! Leases: who of all replicas does what the others wait for.
//!
//! A lease is a key with an expiry and a random token (`SET NX PX`). Its holder renews it, and deletes it when it is
//! dropped, each only if the token is still its own. The lease of a replica that crashes ends with its expiry.
//!
//! Those who wait ask for the key, first after 5 ms, later every 100 ms. Publishing the end on a channel was rejected:
//! a message that is lost with a connection, or in a failover, would leave its waiters to the expiry; a subscription is a
//! second connection with its own failures; and there is one waiter a replica, because a replica coalesces its own reads.

use std::{sync::Arc, time::Duration};

use rand::RngExt as _;
use redis::{Value, cmd};
use tokio::{sync::oneshot, time::Instant};

use super::{
    keys::to_hex,
    link::Link,
    script::{Script, script},
    with_jitter,
};

/// When a lease that nobody renews ends: a replica that crashed keeps the others waiting for that long.
pub const LEASE_EXPIRY: Duration = Duration::from_secs(5);

/// How often a holder renews its lease: it may miss two renewals.
const RENEWAL: Duration = Duration::from_millis(1500);

/// The longest time for which a lease is renewed, and waited for. A read that takes longer is not worth waiting for.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// The pauses between two questions of a waiter.
const FIRST_QUESTION: Duration = Duration::from_millis(5);
const SLOWEST_QUESTION: Duration = Duration::from_millis(100);

static ACQUIRE: Script = script!(
    "if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end \
     return redis.call('GET', KEYS[1])"
);
/// A lease that the engine has lost, because it was flushed or failed over, is taken again.
static RENEW: Script = script!(
    "local holder = redis.call('GET', KEYS[1]) \
     if holder == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end \
     if holder then return 0 end \
     redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) \
     return 1"
);
static RELEASE: Script = script!(
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end \
     return 0"
);

/// The outcome of asking for a lease.
#[derive(Debug)]
pub enum Lease {
    /// This replica holds the lease, until the guard is dropped.
    Held(LeaseGuard),
    /// Another replica holds it.
    Busy(LeaseWaiter),
    /// There is no engine: every replica goes on alone.
    Alone,
}

/// A lease that this replica holds. Dropping it ends the lease, so put the result first.
#[derive(Debug)]
pub struct LeaseGuard {
    _release: oneshot::Sender<()>,
}

/// Waits for the end of another replica's lease.
#[derive(Debug)]
pub struct LeaseWaiter {
    link: Arc<Link>,
    key: String,
    holder: Vec<u8>,
}

/// Why a wait for a lease has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEnd {
    /// The lease has ended: its result is there, or the next one may hold it.
    Ended,
    /// The engine is away, or the lease has been held for longer than is worth waiting for.
    Alone,
}

/// Asks for a lease. Cancel safe: a lease that is granted to a future that was dropped is released.
pub(super) async fn acquire(link: &Arc<Link>, key: String) -> Lease {
    let (outcome, received) = oneshot::channel();
    tokio::spawn(ask(Arc::clone(link), key, outcome));
    received.await.unwrap_or(Lease::Alone)
}

async fn ask(link: Arc<Link>, key: String, outcome: oneshot::Sender<Lease>) {
    let token = to_hex(&rand::rng().random::<[u8; 16]>());
    let reply = link.write_script(&ACQUIRE, &[&key], &[&token, &millis(LEASE_EXPIRY)]).await;
    // If nobody waits for the outcome any more, sending drops it, and with it the guard.
    match reply {
        Some(Value::Int(1)) => {
            let (release, released) = oneshot::channel();
            let _ = outcome.send(Lease::Held(LeaseGuard { _release: release }));
            hold(link, key, token, released).await;
        }
        Some(Value::BulkString(holder)) => {
            let _ = outcome.send(Lease::Busy(LeaseWaiter { link, key, holder }));
        }
        _ => {
            let _ = outcome.send(Lease::Alone);
        }
    }
}

/// Renews a lease until its guard is dropped, then ends it.
async fn hold(link: Arc<Link>, key: String, token: String, mut released: oneshot::Receiver<()>) {
    let began = Instant::now();
    while tokio::time::timeout(RENEWAL, &mut released).await.is_err() && began.elapsed() < LONGEST_HOLD {
        let renewed = link.script(&RENEW, &[&key], &[&token, &millis(LEASE_EXPIRY)]).await;
        if renewed == Some(Value::Int(0)) {
            // Another replica holds it: this one was cut off for longer than the expiry.
            return;
        }
    }
    link.script(&RELEASE, &[&key], &[&token]).await;
}

impl LeaseWaiter {
    /// Waits for the end of the lease. Cancel safe.
    pub async fn wait(self) -> LeaseEnd {
        let began = Instant::now();
        let mut pause = FIRST_QUESTION;
        while began.elapsed() < LONGEST_HOLD {
            tokio::time::sleep(with_jitter(pause)).await;
            pause = (pause * 2).min(SLOWEST_QUESTION);
            match self.link.command(&self.key, cmd("GET").arg(&self.key)).await {
                Some(Value::BulkString(holder)) if holder == self.holder => {}
                Some(Value::BulkString(_) | Value::Nil) => return LeaseEnd::Ended,
                _ => return LeaseEnd::Alone,
            }
        }
        LeaseEnd::Alone
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
