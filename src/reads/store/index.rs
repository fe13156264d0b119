//! What a directory holds, in the order of last use; and the space that blobs take while they are written.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::oci::Digest;

/// File systems give out blocks of this size.
const BLOCK: u64 = 4096;

/// The most blobs of a directory, whatever their size. The index needs about 250 bytes for each, so 16 MiB.
const MAX_BLOBS: usize = 65_536;

/// A use is written to the file's time of modification at most this often.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// The index of a directory.
#[derive(Debug)]
pub(super) struct Index {
    max_bytes: u64,
    max_blobs: usize,
    used: u64,
    reserved: u64,
    blobs: HashMap<Arc<Digest>, Entry>,
    by_use: BTreeMap<Use, Arc<Digest>>,
    uses: u64,
}

/// When a blob was used: nanoseconds since the epoch, and a number of its own. File systems can have coarse times.
type Use = (u64, u64);

#[derive(Debug)]
struct Entry {
    bytes: u64,
    used_at: Use,
    touched_at: u64,
}

impl Index {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            max_blobs: MAX_BLOBS,
            used: 0,
            reserved: 0,
            blobs: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn with_max_blobs(self, max_blobs: usize) -> Self {
        Self { max_blobs, ..self }
    }

    /// Adds or replaces a blob. Returns the blobs to delete for it.
    pub(super) fn insert(&mut self, digest: &Digest, bytes: u64, used: SystemTime) -> Vec<Arc<Digest>> {
        self.remove(digest);
        let bytes = blocks(bytes);
        let digest = Arc::new(digest.clone());
        let touched_at = nanoseconds(used);
        let used_at = self.use_at(touched_at);
        self.used = self.used.saturating_add(bytes);
        self.by_use.insert(used_at, Arc::clone(&digest));
        self.blobs.insert(digest, Entry { bytes, used_at, touched_at });
        self.shrink()
    }

    /// Adds a blob that was found in the directory, unless it is known.
    pub(super) fn found(&mut self, digest: &Digest, bytes: u64, used: SystemTime) -> Vec<Arc<Digest>> {
        if self.blobs.contains_key(digest) { Vec::new() } else { self.insert(digest, bytes, used) }
    }

    /// Notes a use. Returns whether the file's time is to be set.
    pub(super) fn touch(&mut self, digest: &Digest, now: SystemTime) -> bool {
        let now = nanoseconds(now);
        let used_at = self.use_at(now);
        let Some(entry) = self.blobs.get_mut(digest) else { return false };
        if let Some(digest) = self.by_use.remove(&entry.used_at) {
            self.by_use.insert(used_at, digest);
        }
        entry.used_at = used_at;
        let due = now.saturating_sub(entry.touched_at) >= TOUCH_EVERY.as_nanos() as u64;
        if due {
            entry.touched_at = now;
        }
        due
    }

    pub(super) fn remove(&mut self, digest: &Digest) {
        if let Some(entry) = self.blobs.remove(digest) {
            self.by_use.remove(&entry.used_at);
            self.used = self.used.saturating_sub(entry.bytes);
        }
    }

    /// Reserves space for a blob that is being written. Returns the blobs to delete for it, or `None` if other reservations
    /// leave no room.
    pub(super) fn reserve(&mut self, bytes: u64) -> Option<Vec<Arc<Digest>>> {
        self.reserved = self.reserved.checked_add(bytes).filter(|sum| *sum <= self.max_bytes)?;
        Some(self.shrink())
    }

    /// Gives reserved space back.
    pub(super) fn release(&mut self, bytes: u64) {
        self.reserved = self.reserved.saturating_sub(bytes);
    }

    /// Removes the blob that was not used for the longest time.
    pub(super) fn evict(&mut self) -> Option<Arc<Digest>> {
        let digest = Arc::clone(self.by_use.first_key_value()?.1);
        self.remove(&digest);
        Some(digest)
    }

    /// Whether a blob of this size could be kept if nothing else were.
    pub(super) fn could_hold(&self, bytes: u64) -> bool {
        blocks(bytes) <= self.max_bytes
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> (u64, usize) {
        (self.used + self.reserved, self.blobs.len())
    }

    fn shrink(&mut self) -> Vec<Arc<Digest>> {
        let mut evicted = Vec::new();
        while self.used.saturating_add(self.reserved) > self.max_bytes || self.blobs.len() > self.max_blobs {
            let Some(digest) = self.evict() else { break };
            evicted.push(digest);
        }
        evicted
    }

    fn use_at(&mut self, nanoseconds: u64) -> Use {
        self.uses += 1;
        (nanoseconds, self.uses)
    }
}

fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK).saturating_mul(BLOCK)
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
