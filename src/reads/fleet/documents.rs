//! Documents: values with an age.
//!
//! A value is stored with the time that it was to be kept for, and the engine counts the time that is left. Their
//! difference is the age: no clock of a replica takes part. One script reads both, so that they belong together.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{Value, cmd};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::{
    OPERATION_LIMIT,
    failure::Failure,
    link::{Link, set},
    reply_limits::MAX_VALUE,
    script::{Script, script},
};

/// The most bytes of a document. A larger one is not shared: it would keep all other operations waiting.
pub const MAX_DOCUMENT: usize = 4 * 1024 * 1024;

/// Larger values wait for their turn, so that no more than [`MAX_DOCUMENT`] of them is under way. 4 MiB take 6 ms to put and 10 ms
/// to get, measured on loopback; without turns, a few of them at once would keep every operation for longer than its limit.
const SMALL: usize = 16 * 1024;

/// The longest wait for a turn: what is left of the limit is enough for the value.
const TURN_LIMIT: Duration = OPERATION_LIMIT.checked_div(3).unwrap();

/// The longest time for which a document is kept.
const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The milliseconds for which a document was to be kept, big-endian.
const HEADER: usize = 8;

const _: () = assert!(MAX_DOCUMENT + HEADER <= MAX_VALUE);

/// The value and the milliseconds that are left; only the length if it is over the first number, and nothing if it is over the
/// second one.
static GET: Script = script!(
    "local length = redis.call('STRLEN', KEYS[1]) \
     if length == 0 or length > tonumber(ARGV[2]) then return false end \
     if length > tonumber(ARGV[1]) then return length end \
     return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}"
);

/// A document of the engine. Whoever takes it checks its content: anybody who can write to the engine may have written it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The document.
    pub value: Bytes,
    /// The time since it was put.
    pub age: Duration,
}

/// The documents of an engine.
#[derive(Debug)]
pub(super) struct Documents {
    link: Arc<Link>,
    /// The bytes of large values that may be under way.
    turns: Semaphore,
}

impl Documents {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, turns: Semaphore::new(MAX_VALUE) }
    }

    /// A document, unless it is larger than `limit`.
    pub(super) async fn get(&self, key: &str, limit: usize) -> Option<Kept> {
        let limit = (limit.min(MAX_DOCUMENT) + HEADER).to_string();
        let reply = self.link.run(async |session| {
            let connection = session.connection(key)?;
            let first = connection.run(&GET, &[key], &[&SMALL.to_string(), &limit]).await?;
            let Value::Int(length) = first else { return Ok(first) };
            let _turn = self.turn(usize::try_from(length).unwrap_or(usize::MAX)).await?;
            connection.run(&GET, &[key], &[&length.to_string(), &limit]).await
        });
        let Value::Array(reply) = reply.await? else { return None };
        let [Value::BulkString(stored), Value::Int(left)] = <[Value; 2]>::try_from(reply).ok()? else {
            return None;
        };
        parse(Bytes::from(stored), left)
    }

    /// Puts a document. A failure is as if it had been evicted at once.
    pub(super) async fn put(&self, key: &str, value: &[u8], ttl: Duration) {
        let ttl = ttl.min(MAX_TTL);
        if value.len() > MAX_DOCUMENT || ttl < Duration::from_millis(1) {
            return;
        }
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let write = self.link.write(async |session| {
            let connection = session.connection(key)?;
            let _turn = self.turn(value.len()).await?;
            let stored = [&millis.to_be_bytes(), value].concat();
            connection.send(&set(key, &stored, ttl)).await
        });
        write.await;
    }

    /// Removes a document.
    pub(super) async fn remove(&self, key: &str) {
        self.link.command(key, cmd("DEL").arg(key)).await;
    }

    /// Waits for the turn of a value of this length. A small one needs none.
    async fn turn(&self, length: usize) -> Result<Option<SemaphorePermit<'_>>, Failure> {
        if length <= SMALL {
            return Ok(None);
        }
        let weight = u32::try_from(length.min(MAX_VALUE)).map_err(|_| Failure::Busy)?;
        let turn = timeout(TURN_LIMIT, self.turns.acquire_many(weight)).await;
        turn.ok().and_then(Result::ok).map(Some).ok_or(Failure::Busy)
    }
}

/// Reads a stored document. `None` if it has another form, or times that contradict each other.
fn parse(stored: Bytes, left_millis: i64) -> Option<Kept> {
    let header: [u8; HEADER] = stored.get(..HEADER)?.try_into().ok()?;
    let age = u64::from_be_bytes(header).checked_sub(u64::try_from(left_millis).ok()?)?;
    let age = Duration::from_millis(age);
    (age <= MAX_TTL).then(|| Kept { value: stored.slice(HEADER..), age })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(ttl: u64, value: &[u8]) -> Bytes {
        [&ttl.to_be_bytes(), value].concat().into()
    }

    #[test]
    fn the_age_is_the_time_that_has_been_used_up() {
        let kept = |value: &'static [u8], age| {
            Some(Kept { value: Bytes::from_static(value), age: Duration::from_millis(age) })
        };
        assert_eq!(parse(stored(30_000, b"x"), 30_000), kept(b"x", 0));
        assert_eq!(parse(stored(30_000, b""), 12_345), kept(b"", 17_655));
    }

    #[test]
    fn a_value_that_contradicts_itself_is_not_used() {
        // More time left than there was; without an expiry; gone; older than anything is kept.
        for (ttl, left) in [(10, 11), (10, -1), (10, -2), (u64::MAX, 1)] {
            assert_eq!(parse(stored(ttl, b"x"), left), None, "{ttl} {left}");
        }
        assert_eq!(parse(Bytes::from_static(b"1234567"), 1), None);
    }

    proptest! {
        #[test]
        fn no_value_breaks_the_parser(bytes: Vec<u8>, left: i64) {
            if let Some(kept) = parse(bytes.into(), left) {
                prop_assert!(kept.age <= MAX_TTL);
            }
        }
    }
}
