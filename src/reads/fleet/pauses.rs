//! The pauses that registries ask for (429), shared by all replicas.
//!
//! A replica announces a pause in the background, and each asks for all pauses twice a second, with one script. A request to
//! a registry costs no round trip: it looks at what was learned last. A replica learns of a pause up to half a second late,
//! and may meet the 429 itself in that time, as it would alone.
//!
//! Publish and subscribe would be faster by that half second, but needs a second connection, and a read of what was
//! missed after each reconnection; in a cluster and behind Sentinels it fails in more ways. Asking again repairs
//! everything by itself, and notices on the way that an engine does not reply, before a call has to.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use redis::Value;
use tokio::{task::AbortHandle, time::Instant};

use super::{
    link::Link,
    script::{Script, script},
};
use crate::client::SharedPauses;

/// How often the pauses are asked for.
const INTERVAL: Duration = Duration::from_millis(500);

/// The longest pause that is taken over.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// The most registries with a pause.
const MAX_PAUSES: usize = 1000;

/// The longest name of a registry.
const MAX_NAME: usize = 300;

/// The registries and the ends of their pauses, in milliseconds of the engine's clock. The earliest ends are forgotten when
/// there are too many.
static ANNOUNCE: Script = script!(
    "local time = redis.call('TIME') \
     local now = time[1] * 1000 + math.floor(time[2] / 1000) \
     redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now) \
     local ends = now + tonumber(ARGV[2]) \
     local known = redis.call('ZSCORE', KEYS[1], ARGV[1]) \
     if not known or tonumber(known) < ends then redis.call('ZADD', KEYS[1], ends, ARGV[1]) end \
     redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3])) \
     local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2] \
     redis.call('PEXPIRE', KEYS[1], math.max(1, tonumber(last) - now)) \
     return 1"
);
/// All names and the milliseconds that are left, one after the other.
static LIST: Script = script!(
    "local time = redis.call('TIME') \
     local now = time[1] * 1000 + math.floor(time[2] / 1000) \
     local found = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[1]) \
     for i = 2, #found, 2 do found[i] = tonumber(found[i]) - now end \
     return found"
);

/// The pauses of all registries.
#[derive(Debug)]
pub(super) struct Pauses {
    shared: Arc<Shared>,
    task: OnceLock<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    link: Arc<Link>,
    key: String,
    /// What was learned last.
    until: RwLock<HashMap<String, Instant>>,
}

impl Pauses {
    pub(super) fn new(link: Arc<Link>, key: String) -> Self {
        Self { shared: Arc::new(Shared { link, key, until: RwLock::default() }), task: OnceLock::new() }
    }

    /// Starts to ask for pauses, unless that has happened. Must be called within a runtime.
    pub(super) fn start(&self) {
        self.task.get_or_init(|| tokio::spawn(keep_asking(Arc::clone(&self.shared))).abort_handle());
    }
}

impl SharedPauses for Pauses {
    fn announce(&self, registry: &str, wait: Duration) {
        let wait = wait.min(LONGEST_PAUSE).as_millis();
        if registry.len() > MAX_NAME || wait == 0 {
            return;
        }
        let (shared, registry) = (Arc::clone(&self.shared), registry.to_owned());
        tokio::spawn(async move {
            let (wait, most) = (wait.to_string(), MAX_PAUSES.to_string());
            shared.link.write_script(&ANNOUNCE, &[&shared.key], &[&registry, &wait, &most]).await;
        });
    }

    fn paused_until(&self, registry: &str) -> Option<Instant> {
        self.start();
        let until = self.shared.until.read().unwrap_or_else(PoisonError::into_inner);
        until.get(registry).copied().filter(|until| *until > Instant::now())
    }
}

impl Drop for Pauses {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

async fn keep_asking(shared: Arc<Shared>) {
    loop {
        // Without an engine, the pauses that were learned last go on until their ends.
        if let Some(reply) = shared.link.script(&LIST, &[&shared.key], &[&MAX_PAUSES.to_string()]).await {
            *shared.until.write().unwrap_or_else(PoisonError::into_inner) = parse(reply, Instant::now());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Reads the reply to `LIST`. What has another form is left out.
fn parse(reply: Value, now: Instant) -> HashMap<String, Instant> {
    let Value::Array(parts) = reply else { return HashMap::new() };
    let pairs = parts.chunks_exact(2).take(MAX_PAUSES).filter_map(|pair| match pair {
        [Value::BulkString(name), Value::Int(millis)] if name.len() <= MAX_NAME => {
            let left = Duration::from_millis(u64::try_from(*millis).ok()?).min(LONGEST_PAUSE);
            Some((String::from_utf8(name.clone()).ok()?, now + left))
        }
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &[u8]) -> Value {
        Value::BulkString(name.to_vec())
    }

    #[tokio::test]
    async fn pauses_of_another_form_are_left_out() {
        let reply = Value::Array(vec![
            name(b"docker.io"),
            Value::Int(1500),
            name(b"forever"),
            Value::Int(i64::MAX),
            name(b"negative"),
            Value::Int(-1),
            name(b"\xff"),
            Value::Int(1),
            name(&[b'a'; MAX_NAME + 1]),
            Value::Int(1),
            Value::Nil,
            Value::Int(1),
            name(b"alone"),
        ]);
        let now = Instant::now();
        let expected = [
            ("docker.io".to_owned(), now + Duration::from_millis(1500)),
            ("forever".to_owned(), now + LONGEST_PAUSE),
        ];
        assert_eq!(parse(reply, now), HashMap::from(expected));
        assert_eq!(parse(Value::Okay, now), HashMap::new());
    }
}
