//! Reads the frame headers of an HTTP/2 byte stream (RFC 9113, section 4.1), and limits control frames.
//!
//! h2 limits the memory that a flood can use, but not the processor time: it answers every PING and SETTINGS, and treats a
//! stream that is accepted and then reset as an ordinary cancellation. [`ControlFrameBudget`] bounds how many of these a peer may
//! send, measured against the work that was done for it.

use std::time::Duration;

use tokio::time::Instant;

/// `DATA` frame type.
const DATA: u8 = 0x0;
/// `HEADERS` frame type.
const HEADERS: u8 = 0x1;
/// `RST_STREAM` frame type.
const RST_STREAM: u8 = 0x3;
/// `SETTINGS` frame type.
const SETTINGS: u8 = 0x4;
/// `PING` frame type.
const PING: u8 = 0x6;
/// The flag which makes a SETTINGS or PING frame an acknowledgement.
const ACK: u8 = 0x1;

/// The parts of a frame header that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    kind: u8,
    flags: u8,
}

impl Frame {
    /// The frame a client's preface ends with.
    pub(super) fn is_settings(self) -> bool {
        self.kind == SETTINGS && self.flags & ACK == 0
    }

    /// Whether the frame makes the receiver work or answer without carrying a part of a call.
    pub(super) fn is_control(self) -> bool {
        match self.kind {
            PING | SETTINGS => self.flags & ACK == 0,
            RST_STREAM => true,
            _ => false,
        }
    }

    /// Carries a part of a call.
    pub(super) fn is_content(self) -> bool {
        matches!(self.kind, DATA | HEADERS)
    }
}

/// Finds the frame headers in a byte stream that comes in arbitrary pieces; payloads are skipped, not looked at.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    header: [u8; Self::HEADER_LEN],
    filled: usize,
    payload_left: usize,
}

impl Scanner {
    const HEADER_LEN: usize = 9;

    /// Calls `found` for each frame whose header ends within `bytes`.
    pub(super) fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let skipped = self.payload_left.min(bytes.len());
            self.payload_left -= skipped;
            let (_, rest) = bytes.split_at(skipped);
            let (head, rest) = rest.split_at(rest.len().min(Self::HEADER_LEN - self.filled));
            for (slot, byte) in self.header.iter_mut().skip(self.filled).zip(head) {
                *slot = *byte;
            }
            self.filled += head.len();
            if self.filled == Self::HEADER_LEN {
                let [high, middle, low, kind, flags, ..] = self.header;
                self.payload_left = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.filled = 0;
                found(Frame { kind, flags });
            }
            bytes = rest;
        }
    }
}

/// How many control frames a peer may still send.
///
/// A burst of 1,000, 100 more a second, and one more for each frame of a call that was sent to it: callers which measure
/// bandwidth send a PING for a DATA frame (grpc-go's BDP estimator), and one that cancels a stream it got something from
/// has paid for the cancellation.
#[derive(Debug)]
pub(super) struct ControlFrameBudget {
    left: u32,
    refilled: Instant,
}

impl ControlFrameBudget {
    const BURST: u32 = 1000;
    /// 100 a second.
    const REFILL_EVERY: Duration = Duration::from_millis(10);

    pub(super) fn new(now: Instant) -> Self {
        Self { left: Self::BURST, refilled: now }
    }

    /// Takes one; false when none is left.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        let due = now.saturating_duration_since(self.refilled).as_millis() / Self::REFILL_EVERY.as_millis();
        if due > 0 {
            let due = u32::try_from(due).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(due).min(Self::BURST);
            self.refilled = now;
        }
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// Gives one back.
    pub(super) fn earn(&mut self) {
        self.left = self.left.saturating_add(1).min(Self::BURST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = &[
        0, 0, 0, SETTINGS, 0, 0, 0, 0, 0, // an empty SETTINGS
        0, 0, 3, DATA, 1, 0, 0, 0, 1, PING, PING, PING, // DATA whose payload looks like frame types
        0, 0, 8, PING, ACK, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8,
    ];

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let whole = [(SETTINGS, 0), (DATA, 1), (PING, ACK)].map(|(kind, flags)| Frame { kind, flags });
        for piece in 1..=STREAM.len() {
            let (mut scanner, mut found) = (Scanner::default(), Vec::new());
            for bytes in STREAM.chunks(piece) {
                scanner.scan(bytes, |frame| found.push(frame));
            }
            assert_eq!(found, whole, "in pieces of {piece}");
        }
    }

    #[test]
    fn acknowledgements_are_not_control_frames() {
        assert!(!Frame { kind: PING, flags: ACK }.is_control());
        assert!(!Frame { kind: SETTINGS, flags: ACK }.is_control());
        assert!(Frame { kind: PING, flags: 0 }.is_control());
    }

    #[test]
    fn an_allowance_ends_and_comes_back_with_time_and_with_work() {
        let start = Instant::now();
        let mut budget = ControlFrameBudget::new(start);
        let spent = (0..ControlFrameBudget::BURST + 5).filter(|_| budget.spend(start)).count();
        assert_eq!(spent, ControlFrameBudget::BURST as usize);

        let later = start + Duration::from_secs(1);
        let spent = (0..ControlFrameBudget::BURST).filter(|_| budget.spend(later)).count();
        assert_eq!(spent, 100, "a second gives 100");

        budget.earn();
        assert!(budget.spend(later));
        assert!(!budget.spend(later));
    }
}
