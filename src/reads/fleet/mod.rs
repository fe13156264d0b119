//! The engine that the replicas of a fleet share: Redis or Valkey.
//!
//! It is an accelerator, never a dependency. Every operation takes at most [`OPERATION_LIMIT`] and never fails: an engine that
//! is away, slow or full is as if there were none. After a failure nobody asks it, until it has replied to a task that looks
//! for it in the background. What it says is checked here for its form; whether a document is what it should be is checked
//! by its reader. No secret is written to it.
//!
//! The `redis` crate encodes commands, parses replies and pipelines both. Connecting is done here, for Sentinels and clusters
//! too, because the crate's own connections read replies without a limit (`reply_limits`). Every operation concerns a single slot,
//! and a redirection (`MOVED`) is a failure like others: the next session has the new map.
//!
//! The engine's user needs the commands AUTH, CLUSTER SLOTS, DEL, EVAL, EVALSHA, GET, HDEL, HGETALL, HSET, PEXPIRE, PING, PTTL,
//! SELECT, SET, STRLEN, TIME, ZADD, ZRANGE, ZRANGEBYSCORE, ZREMRANGEBYRANK, ZREMRANGEBYSCORE and ZSCORE, for keys that begin with
//! the prefix.
//!
//! | file | what it does |
//! |---|---|
//! | `engine` | the face: one method an operation |
//! | `settings`, `address` | which engine; the forms of its URL |
//! | `link` | one session, or none; the limit on every operation; back-off |
//! | `counts` | what became of operations |
//! | `session`, `slots` | the servers: one, the master behind Sentinels, the masters of a cluster |
//! | `connection`, `sign_in` | one connection: TCP, TLS, password |
//! | `reply_limits` | what an engine may send |
//! | `failure` | what an error of the engine means |
//! | `script`, `keys` | what operations are made of |
//! | `documents` | values with an age |
//! | `lease` | who does what the others wait for |
//! | `pauses` | the pauses that registries ask for |
//! | `budget`, `budget_queue` | what all replicas together may do to a registry |

use std::time::Duration;

use rand::RngExt as _;

mod address;
mod budget;
mod budget_queue;
mod connection;
mod counts;
mod documents;
mod engine;
mod failure;
mod keys;
mod lease;
mod link;
mod pauses;
mod reply_limits;
mod script;
mod session;
mod settings;
mod sign_in;
mod slots;

pub use budget::BudgetLimits;
pub use counts::EngineCounts;
pub use documents::{Kept, MAX_DOCUMENT};
pub use engine::Engine;
pub use lease::{LEASE_EXPIRY, Lease, LeaseEnd, LeaseGuard, LeaseWaiter};
pub use settings::{Settings, check_url};

/// The longest time that an operation takes. A registry in the same region replies in about that time, so that waiting any
/// longer would be no gain.
pub const OPERATION_LIMIT: Duration = Duration::from_millis(50);

/// The limit for a new session: all connections, TLS and sign-in included.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Half to all of a pause, at random, so that replicas do not act in step.
fn with_jitter(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..=1.0))
}
