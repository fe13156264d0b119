//! Limits the frames of a peer by the work that was done for it.
//!
//! h2 limits the memory that a flood can use, but not the processor time: it answers every PING and SETTINGS, skips
//! unknown frames, and treats a stream that is accepted and then reset as an ordinary cancellation. Here each received
//! frame has a cost, whatever its type, and only what was sent to the peer earns more than a small steady allowance.

use std::time::Duration;

use tokio::time::Instant;

use super::frames::{
    Frame,
    kind::{DATA, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS},
};

/// Costs of received frames.
///
/// A SETTINGS frame can change the window of every stream, and so costs more than a frame that concerns one.
const SETTINGS_COST: u32 = 10;
const FRAME_COST: u32 = 1;

/// Costs of the RST_STREAM frames that we send.
///
/// A stream that the peer makes us reset has cost us a call (CVE-2025-8671). No correct client causes one, except by
/// opening streams before it has read our limit.
const ERROR_RESET_COST: u32 = 10;
const REFUSED_STREAM_COST: u32 = 1;

/// A response earns this twice, for its headers and for its trailers. Callers measure the connection with a PING (grpc-go),
/// open windows, cancel, and some still send PRIORITY.
const EARNED_BY_HEADERS: u32 = 4;
/// DATA earns one for this many bytes. A reader that sends two WINDOW_UPDATE for 4 KiB (Go's net/http) uses an eighth of
/// that. A frame alone earns nothing: a peer can make us send any number of them with a byte each (CVE-2019-9511).
const EARNING_BYTES: u32 = 256;
/// A client sends a request's message in one DATA frame, and often its end in another.
const DATA_PER_REQUEST: u32 = 2;

/// Error codes (RFC 9113, section 7) of streams that we end for reasons of our own.
const NO_ERROR: u32 = 0x0;
const INTERNAL_ERROR: u32 = 0x2;
const CANCEL: u32 = 0x8;
/// The error code of streams over the limit.
const REFUSED_STREAM: u32 = 0x7;

/// What a peer may still send: at first, and after a pause, a burst of 1,000 frames; 100 more a second; and what it has
/// earned.
#[derive(Debug)]
pub(super) struct FrameBudget {
    left: u32,
    refilled: Instant,
    /// Bytes of DATA that have earned nothing yet.
    unpaid_bytes: u32,
    /// DATA frames that belong to the requests of the peer.
    request_data: u32,
    /// The highest stream that the peer has opened.
    newest_stream: u32,
    /// Whether GOAWAY was sent; h2 then skips the requests that still come.
    going_away: bool,
}

impl FrameBudget {
    const BURST: u32 = 1000;
    /// 100 a second.
    const REFILL_EVERY: Duration = Duration::from_millis(10);
    /// A fast reader's WINDOW_UPDATE frames come long after the DATA that earned them, and together: 4,096 frames for
    /// a window of 8 MiB that is opened in steps of 2 KiB.
    const MAX_EARNED: u32 = 8192;
    const MAX_REQUEST_DATA: u32 = 2000;

    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: Self::BURST,
            refilled: now,
            unpaid_bytes: 0,
            request_data: 0,
            newest_stream: 0,
            going_away: false,
        }
    }

    /// Counts a frame of the peer; false when the budget does not cover it.
    pub(super) fn received(&mut self, frame: Frame, now: Instant) -> bool {
        let cost = match frame.kind {
            // A request. `max_concurrent_streams` limits them, and one over the limit costs the RST_STREAM that it gets.
            HEADERS if frame.stream > self.newest_stream && !self.going_away => {
                self.newest_stream = frame.stream;
                self.request_data = (self.request_data + DATA_PER_REQUEST).min(Self::MAX_REQUEST_DATA);
                return true;
            }
            DATA if self.request_data > 0 => {
                self.request_data -= 1;
                return true;
            }
            SETTINGS if !frame.is_ack() => SETTINGS_COST,
            _ => FRAME_COST,
        };
        self.refill(now);
        self.spend(cost)
    }

    /// Counts a frame that was sent to the peer; false when the budget does not cover it.
    pub(super) fn sent(&mut self, frame: Frame) -> bool {
        match frame.kind {
            HEADERS => self.earn(EARNED_BY_HEADERS),
            DATA => {
                self.unpaid_bytes += frame.length;
                self.earn(self.unpaid_bytes / EARNING_BYTES);
                self.unpaid_bytes %= EARNING_BYTES;
            }
            // Each is acknowledged.
            PING | SETTINGS if !frame.is_ack() => self.earn(FRAME_COST),
            RST_STREAM => match frame.error_code {
                NO_ERROR | INTERNAL_ERROR | CANCEL => {}
                REFUSED_STREAM => return self.spend(REFUSED_STREAM_COST),
                _ => return self.spend(ERROR_RESET_COST),
            },
            GOAWAY => self.going_away = true,
            _ => {}
        }
        true
    }

    /// Adds what the time has brought.
    fn refill(&mut self, now: Instant) {
        let due = now.saturating_duration_since(self.refilled).as_millis() / Self::REFILL_EVERY.as_millis();
        if due > 0 {
            let due = u32::try_from(due).unwrap_or(u32::MAX);
            self.left = self.left.max(self.left.saturating_add(due).min(Self::BURST));
            self.refilled = now;
        }
    }

    fn spend(&mut self, cost: u32) -> bool {
        let left = self.left.checked_sub(cost);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    fn earn(&mut self, frames: u32) {
        self.left = self.left.saturating_add(frames).min(Self::MAX_EARNED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIORITY: u8 = 0x2;
    const PUSH_PROMISE: u8 = 0x5;
    const WINDOW_UPDATE: u8 = 0x8;
    const CONTINUATION: u8 = 0x9;
    const PROTOCOL_ERROR: u32 = 0x1;

    /// How many of these the peer may send at one moment.
    fn allowed(budget: &mut FrameBudget, frame: Frame, now: Instant) -> u32 {
        let mut taken = 0;
        while taken < 10_000 && budget.received(frame, now) {
            taken += 1;
        }
        taken
    }

    #[test]
    fn frames_of_every_type_are_limited() {
        let now = Instant::now();
        for (frame, allowance) in [
            (Frame::new(DATA, 1, 0), 1000),
            (Frame::new(HEADERS, 0, 0), 1000),
            (Frame::new(PRIORITY, 1, 5), 1000),
            (Frame::new(RST_STREAM, 1, 4), 1000),
            (Frame::new(SETTINGS, 0, 0), 100),
            (Frame::new(SETTINGS, 0, 0).ack(), 1000),
            (Frame::new(PUSH_PROMISE, 1, 4), 1000),
            (Frame::new(PING, 0, 8), 1000),
            (Frame::new(PING, 0, 8).ack(), 1000),
            (Frame::new(GOAWAY, 0, 8), 1000),
            (Frame::new(WINDOW_UPDATE, 0, 4), 1000),
            (Frame::new(CONTINUATION, 1, 0), 1000),
            (Frame::new(0xfa, 0, 0), 1000),
        ] {
            assert_eq!(allowed(&mut FrameBudget::new(now), frame, now), allowance, "{frame:?}");
        }
    }

    #[test]
    fn time_brings_100_frames_a_second_up_to_a_burst() {
        let start = Instant::now();
        let (mut budget, ping) = (FrameBudget::new(start), Frame::new(PING, 0, 8));
        allowed(&mut budget, ping, start);
        let later = start + Duration::from_secs(1);
        assert_eq!(allowed(&mut budget, ping, later), 100);
        assert_eq!(allowed(&mut budget, ping, later + Duration::from_secs(3600)), 1000);
    }

    #[test]
    fn a_request_brings_two_data_frames_with_it_once() {
        let now = Instant::now();
        let mut budget = FrameBudget::new(now);
        for _ in 0..3 {
            assert!(budget.received(Frame::new(HEADERS, 1, 40), now));
        }
        // Of the three HEADERS, two cost one each and opened no stream.
        assert_eq!(allowed(&mut budget, Frame::new(DATA, 1, 5), now), DATA_PER_REQUEST + 1000 - 2);
    }

    #[test]
    fn requests_cost_once_they_are_skipped() {
        let now = Instant::now();
        let mut budget = FrameBudget::new(now);
        let mut taken = |goaway: bool, ids: std::ops::Range<u32>| {
            assert!(!goaway || budget.sent(Frame::new(GOAWAY, 0, 8)));
            ids.take_while(|id| budget.received(Frame::new(HEADERS, *id, 40), now)).count()
        };
        assert_eq!(taken(false, 1..5000), 4999);
        assert_eq!(taken(true, 5000..10_000), 1000);
    }

    #[test]
    fn bytes_earn_and_frames_of_one_byte_do_not() {
        let now = Instant::now();
        let update = Frame::new(WINDOW_UPDATE, 1, 4);
        for (length, frames, earned) in [(16_384, 1, 64), (16_384, 10_000, 8192), (1, 512, 2), (0, 10_000, 0)]
        {
            let mut budget = FrameBudget::new(now);
            allowed(&mut budget, update, now);
            for _ in 0..frames {
                assert!(budget.sent(Frame::new(DATA, 1, length)));
            }
            assert_eq!(allowed(&mut budget, update, now), earned, "{frames} DATA frames of {length}");
        }
    }

    #[test]
    fn what_we_send_earns_its_acknowledgement() {
        let now = Instant::now();
        for ours in [Frame::new(PING, 0, 8), Frame::new(SETTINGS, 0, 18)] {
            let mut budget = FrameBudget::new(now);
            allowed(&mut budget, ours.ack(), now);
            assert!(budget.sent(ours) && budget.sent(ours.ack()));
            assert_eq!(allowed(&mut budget, ours.ack(), now), 1, "{ours:?}");
        }
    }

    #[test]
    fn resets_that_the_peer_causes_cost_and_our_own_do_not() {
        let now = Instant::now();
        let reset = Frame::new(RST_STREAM, 1, 4);
        for (code, allowance) in [
            (NO_ERROR, 10_000),
            (INTERNAL_ERROR, 10_000),
            (CANCEL, 10_000),
            (REFUSED_STREAM, 1000),
            (PROTOCOL_ERROR, 100),
        ] {
            let mut budget = FrameBudget::new(now);
            let taken = (0..10_000).take_while(|_| budget.sent(reset.with_code(code))).count();
            assert_eq!(taken, allowance, "error code {code}");
        }
    }
}
