//! What became of the operations of an engine.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What became of the operations of an engine since the start. Each is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineCounts {
    /// The engine did what it was asked to.
    pub done: u64,
    /// The engine did not reply within the limit.
    pub waited: u64,
    /// The connection was lost, or closed because another operation had failed.
    pub failed: u64,
    /// The engine was not asked, because it was away or too much was under way.
    pub skipped: u64,
    /// The engine refused, or would have: its memory is full, or the user may not do that.
    pub refused: u64,
}

/// How one operation ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    Done,
    Waited,
    Failed,
    Skipped,
    Refused,
}

/// Counts the operations.
#[derive(Debug, Default)]
pub(super) struct Counts {
    done: AtomicU64,
    waited: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
    refused: AtomicU64,
}

impl Counts {
    pub(super) fn add(&self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Done => &self.done,
            Outcome::Waited => &self.waited,
            Outcome::Failed => &self.failed,
            Outcome::Skipped => &self.skipped,
            Outcome::Refused => &self.refused,
        };
        count.fetch_add(1, Relaxed);
    }

    pub(super) fn get(&self) -> EngineCounts {
        EngineCounts {
            done: self.done.load(Relaxed),
            waited: self.waited.load(Relaxed),
            failed: self.failed.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }
}
