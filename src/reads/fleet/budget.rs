//! The budget that all replicas together have for one registry: requests a second, and requests in flight.
//!
//! One task a registry asks the engine for all requests of this replica that wait, with one script, so that a request takes
//! at most one round trip, and fewer under load. The script is atomic and uses the engine's clock.
//!
//! - *Requests a second* are slots of equal distance, without bursts (the generic cell rate algorithm). The engine hands out slots up to
//!   [`HORIZON`] ahead; a request waits here for its slot.
//! - *Requests in flight* are a number for each replica, not a list: a replica reports how many it holds, and how many more
//!   it wants. So a lost reply loses no permit, because the next report corrects the number, and the permits of a replica that
//!   crashed come back when its number expires, after [`HELD_EXPIRY`]. While several replicas want permits, each gets at
//!   most an equal share, and the one that has waited longest comes first.
//!
//! Without an engine, all that wait are admitted: the bounds of the replica itself still hold.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use redis::Value;
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    budget_queue::Queue,
    link::Link,
    script::{Script, script},
    with_jitter,
};
use crate::client::{BudgetedRequest, FleetPermit, SharedBudget};

/// What all replicas together may do to one registry. Absent: as much as they like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Requests that begin in a second.
    pub requests_per_second: Option<u32>,
    /// Requests in flight.
    pub max_concurrent_requests: Option<u32>,
}

/// How far ahead slots are handed out. A slot that its request does not wait for is lost, unless another takes it.
const HORIZON: Duration = Duration::from_millis(250);

/// After which silence the permits of a replica are given to others.
const HELD_EXPIRY: Duration = Duration::from_secs(10);

/// How often a replica that holds permits reports: it may miss two reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(3);

/// The pause before a replica asks again that did not get what it wants.
const ASK_AGAIN: Duration = Duration::from_millis(25);

/// How long a returned permit may go unreported: while others want it or little is left, and otherwise.
const URGENT_RETURN: Duration = Duration::from_millis(5);
const UNHURRIED_RETURN: Duration = Duration::from_millis(250);

/// `KEYS`: the replicas' numbers, the next slot. `ARGV`: replica, held, wanted permits, wanted slots without a permit, permits
/// in all (0: no bound), slots a second (0: no bound), horizon and expiry in milliseconds.
///
/// A number is `held wanted since seen`, the last two in milliseconds. A wish that is not repeated for half a second is not
/// counted any more, so that a replica that has gone does not keep permits from others.
///
/// Returns the granted permits, the granted slots in all, the microseconds until the first slot, those between two
/// slots, and whether a returned permit is urgent.
static ASK: Script = script!(
    r"
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local me, held, wanted, plain = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local max, rate, horizon, expiry = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])

local permits, others, claimants, wishes, since, free = wanted, 0, 1, {}, now, 0
if max > 0 then
  local entries = redis.call('HGETALL', KEYS[1])
  for i = 1, #entries, 2 do
    local h, w, s, seen = string.match(entries[i + 1], '^(%d+) (%d+) (%d+) (%d+)$')
    h, w, s, seen = tonumber(h), tonumber(w), tonumber(s), tonumber(seen)
    if entries[i] == me then
      if w and w > 0 then since = s end
    elseif not seen or seen + expiry < now or seen > now + expiry then
      redis.call('HDEL', KEYS[1], entries[i])
    else
      if seen + 500 < now then w = 0 end
      others = others + h
      if h > 0 or w > 0 then claimants = claimants + 1 end
      if w > 0 then wishes[#wishes + 1] = {h, w, s} end
    end
  end
  free = max - others - held
  if #wishes > 0 then
    local share = math.max(1, math.floor(max / claimants))
    for _, wish in ipairs(wishes) do
      if wish[3] < since then free = free - math.min(wish[2], math.max(0, share - wish[1])) end
    end
    free = math.min(free, share - held)
  end
  permits = math.max(0, math.min(wanted, free))
end

local slots, first, distance = permits + plain, 0, 0
if rate > 0 and slots > 0 then
  distance = 1000 / rate
  local start = math.max(now, tonumber(redis.call('GET', KEYS[2]) or '0') or 0)
  if start > now + 60000 then start = now end
  slots = math.max(0, math.min(slots, math.floor((now + horizon - start) / distance) + 1))
  first = start - now
  if slots > 0 then
    local ends = start + slots * distance
    redis.call('SET', KEYS[2], string.format('%.3f', ends), 'PX', math.ceil(ends - now) + 1000)
  end
  permits = math.min(permits, slots)
end

if max > 0 then
  local left = wanted - permits
  if permits > 0 then since = now end
  local number = string.format('%.0f %.0f %.0f %.0f', held + permits, left, since, now)
  redis.call('HSET', KEYS[1], me, number)
  redis.call('PEXPIRE', KEYS[1], expiry)
end
local urgent = (#wishes > 0 or (max > 0 and (max - others - held - permits) * 4 < max)) and 1 or 0
return {permits, slots, math.ceil(first * 1000), math.ceil(distance * 1000), urgent}
"
);

/// The budget of one registry.
#[derive(Debug)]
pub(super) struct Budget {
    shared: Arc<Shared>,
    task: OnceLock<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    link: Arc<Link>,
    keys: [String; 2],
    /// Which replica this is: a random name.
    replica: String,
    limits: BudgetLimits,
    queue: Arc<Queue>,
}

/// What the engine has granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grant {
    permits: usize,
    slots: usize,
    first: Duration,
    distance: Duration,
    urgent: bool,
}

impl Budget {
    pub(super) fn new(link: Arc<Link>, keys: [String; 2], replica: String, limits: BudgetLimits) -> Self {
        let shared = Shared { link, keys, replica, limits, queue: Arc::default() };
        Self { shared: Arc::new(shared), task: OnceLock::new() }
    }
}

impl SharedBudget for Budget {
    fn admit(&self, request: BudgetedRequest) -> Pin<Box<dyn Future<Output = FleetPermit> + Send + '_>> {
        self.task.get_or_init(|| tokio::spawn(keep_admitting(Arc::clone(&self.shared))).abort_handle());
        let counts_as_held =
            request == BudgetedRequest::Concurrent && self.shared.limits.max_concurrent_requests.is_some();
        Box::pin(self.shared.queue.wait(counts_as_held))
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// Asks for those that wait, and reports what is held.
async fn keep_admitting(shared: Arc<Shared>) {
    let queue = &shared.queue;
    // What the engine knows that this replica holds, and whether others want it.
    let (mut reported, mut urgent) = (0, false);
    loop {
        if !queue.anyone_waits() {
            // Nobody is in a hurry: a report waits for a request that may come and take it along.
            let idle = match queue.held() {
                0 if reported == 0 => None,
                held if held < reported => Some(if urgent { URGENT_RETURN } else { UNHURRIED_RETURN }),
                _ => Some(REPORT_INTERVAL),
            };
            match idle {
                None => queue.changed().await,
                Some(idle) => {
                    let until = Instant::now() + idle;
                    while !queue.anyone_waits()
                        && timeout(until - Instant::now(), queue.changed()).await.is_ok()
                    {
                        if queue.held() < reported && urgent {
                            sleep(URGENT_RETURN).await;
                            break;
                        }
                    }
                }
            }
        }
        let wants = queue.wants();
        match ask(&shared, wants).await {
            None => {
                queue.admit_all();
                reported = 0;
                if wants == (0, 0) {
                    // The engine is away, and there is nobody to admit.
                    timeout(REPORT_INTERVAL, queue.changed()).await.unwrap_or_default();
                }
            }
            Some((held, grant)) => {
                reported = held + grant.permits;
                urgent = grant.urgent;
                admit(queue, grant).await;
                if grant.slots < wants.0 + wants.1 && queue.anyone_waits() {
                    let until_slot = grant.first.saturating_sub(HORIZON);
                    let pause = if grant.slots == 0 { until_slot.max(ASK_AGAIN) } else { ASK_AGAIN };
                    let pause = with_jitter(pause.min(HORIZON));
                    // A permit that is returned here may be what is missing.
                    let returned = async {
                        while queue.held() >= reported {
                            queue.changed().await;
                        }
                    };
                    let _ = timeout(pause, returned).await;
                }
            }
        }
    }
}

/// Hands out what was granted, each slot at its time, to those that still wait then.
async fn admit(queue: &Arc<Queue>, grant: Grant) {
    let first = Instant::now() + grant.first;
    let mut permits = grant.permits;
    let mut slot = first;
    for _ in 0..grant.slots {
        sleep_until(slot).await;
        slot += grant.distance;
        match queue.admit_next(permits > 0) {
            Some(true) => permits = permits.saturating_sub(1),
            Some(false) => {}
            // Whoever asked has gone; the rest of the grant is not used.
            None => return,
        }
    }
}

/// Reports what is held, and asks for permits and for slots without one. Returns what was reported, and what is granted.
/// `None`: there is no engine.
async fn ask(shared: &Shared, (permits, plain): (usize, usize)) -> Option<(usize, Grant)> {
    let BudgetLimits { requests_per_second, max_concurrent_requests } = shared.limits;
    let held = shared.queue.held();
    let numbers = [
        held as u64,
        permits as u64,
        plain as u64,
        max_concurrent_requests.unwrap_or(0).into(),
        requests_per_second.unwrap_or(0).into(),
        HORIZON.as_millis().try_into().unwrap_or(u64::MAX),
        HELD_EXPIRY.as_millis().try_into().unwrap_or(u64::MAX),
    ]
    .map(|number| number.to_string());
    let mut arguments = vec![shared.replica.as_str()];
    arguments.extend(numbers.iter().map(String::as_str));
    let keys = shared.keys.each_ref().map(String::as_str);
    let reply = shared.link.write_script(&ASK, &keys, &arguments).await?;
    Some((held, parse(&reply, permits, permits + plain)?))
}

/// Reads the reply to `ASK`. More than what was asked for, or a wait that is too long, is no grant that can be used.
fn parse(reply: &Value, most_permits: usize, most_slots: usize) -> Option<Grant> {
    let Value::Array(parts) = reply else { return None };
    let [Value::Int(permits), Value::Int(slots), Value::Int(first), Value::Int(distance), Value::Int(urgent)] =
        parts.as_slice()
    else {
        return None;
    };
    let micros = |number: &i64| u64::try_from(*number).ok().map(Duration::from_micros);
    let grant = Grant {
        permits: usize::try_from(*permits).ok().filter(|permits| *permits <= most_permits)?,
        slots: usize::try_from(*slots).ok().filter(|slots| *slots <= most_slots)?,
        first: micros(first).filter(|first| *first <= Duration::from_secs(61))?,
        distance: micros(distance).filter(|distance| *distance <= Duration::from_secs(1))?,
        urgent: *urgent != 0,
    };
    // Slots are handed out for the time of the horizon only.
    (grant.slots == 0 || grant.first <= HORIZON * 2).then_some(grant)
}
