//! Reads the frame headers of an HTTP/2 byte stream (RFC 9113, section 4.1).

/// The frame types of RFC 9113 (section 6) that are told apart here.
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0x0;
    pub(in super::super) const HEADERS: u8 = 0x1;
    pub(in super::super) const RST_STREAM: u8 = 0x3;
    pub(in super::super) const SETTINGS: u8 = 0x4;
    pub(in super::super) const PING: u8 = 0x6;
    pub(in super::super) const GOAWAY: u8 = 0x7;
    pub(in super::super) const CONTINUATION: u8 = 0x9;
}

/// The flag which makes a SETTINGS or PING frame an acknowledgement.
const ACK: u8 = 0x1;
/// The flag of the HEADERS or CONTINUATION frame that ends a header block.
const END_HEADERS: u8 = 0x4;

/// The parts of a frame that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The type; a name of [`kind`], or any other value.
    pub(super) kind: u8,
    flags: u8,
    /// Bytes of payload.
    pub(super) length: u32,
    /// The stream; 0 is the connection.
    pub(super) stream: u32,
    /// The error code of a RST_STREAM; 0 in any other frame.
    pub(super) error_code: u32,
}

impl Frame {
    /// The frame a client's preface ends with.
    pub(super) fn is_settings(self) -> bool {
        self.kind == kind::SETTINGS && !self.is_ack()
    }

    /// Whether a SETTINGS or PING frame acknowledges another.
    pub(super) fn is_ack(self) -> bool {
        self.flags & ACK != 0
    }

    /// Whether a header block begins with this frame, or goes on.
    fn has_header_block(self) -> bool {
        matches!(self.kind, kind::HEADERS | kind::CONTINUATION)
    }

    fn ends_header_block(self) -> bool {
        self.flags & END_HEADERS != 0
    }
}

/// Finds the frames in a byte stream that comes in arbitrary pieces. Payloads are skipped, except for the error code of a
/// RST_STREAM.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// The frame header, and the error code if there is one.
    head: [u8; Self::HEADER_LEN + Self::ERROR_CODE_LEN],
    filled: usize,
    payload_left: usize,
    newest: Option<Frame>,
}

impl Scanner {
    const HEADER_LEN: usize = 9;
    const ERROR_CODE_LEN: usize = 4;

    /// Calls `found` for each frame whose header ends within `bytes`; for a RST_STREAM, whose error code does.
    pub(super) fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let skipped = self.payload_left.min(bytes.len());
            self.payload_left -= skipped;
            let (_, rest) = bytes.split_at(skipped);
            let (head, rest) = rest.split_at(rest.len().min(self.head_len() - self.filled));
            for (slot, byte) in self.head.iter_mut().skip(self.filled).zip(head) {
                *slot = *byte;
            }
            self.filled += head.len();
            if self.filled == self.head_len() {
                found(self.take_frame());
            }
            bytes = rest;
        }
    }

    /// Whether a header block has begun and not ended (RFC 9113, section 4.3), because a part of its last frame, or that
    /// frame, is still to come.
    pub(super) fn is_in_header_block(&self) -> bool {
        self.newest.is_some_and(|newest| {
            newest.has_header_block() && (self.payload_left > 0 || !newest.ends_header_block())
        })
    }

    /// How many bytes of the frame that has begun are kept.
    fn head_len(&self) -> usize {
        let [high, middle, low, kind, ..] = self.head;
        let has_code = kind == kind::RST_STREAM && u32::from_be_bytes([0, high, middle, low]) >= 4;
        if self.filled >= Self::HEADER_LEN && has_code {
            Self::HEADER_LEN + Self::ERROR_CODE_LEN
        } else {
            Self::HEADER_LEN
        }
    }

    /// The frame whose head is complete; begins the next.
    fn take_frame(&mut self) -> Frame {
        let [high, middle, low, kind, flags, s0, s1, s2, s3, c0, c1, c2, c3] = self.head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let code = if self.filled > Self::HEADER_LEN { [c0, c1, c2, c3] } else { [0; 4] };
        self.payload_left = (length as usize).saturating_sub(self.filled - Self::HEADER_LEN);
        self.filled = 0;
        let frame = Frame {
            kind,
            flags,
            length,
            // The first bit is reserved (section 4.1).
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
            error_code: u32::from_be_bytes(code),
        };
        self.newest = Some(frame);
        frame
    }
}

#[cfg(test)]
impl Frame {
    /// A frame of this type on this stream.
    pub(super) fn new(kind: u8, stream: u32, length: u32) -> Self {
        Self { kind, flags: 0, length, stream, error_code: 0 }
    }

    /// The same frame as an acknowledgement.
    pub(super) fn ack(self) -> Self {
        Self { flags: ACK, ..self }
    }

    /// The same frame with this error code.
    pub(super) fn with_code(self, error_code: u32) -> Self {
        Self { error_code, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        kind::{CONTINUATION, DATA, HEADERS, PING, RST_STREAM, SETTINGS},
        *,
    };

    const STREAM: &[u8] = &[
        0, 0, 0, SETTINGS, 0, 0, 0, 0, 0, // an empty SETTINGS
        0, 0, 3, DATA, 0, 0x80, 0, 0, 1, PING, PING, PING, // DATA whose payload looks like frame types
        0, 0, 4, RST_STREAM, 0, 0, 0, 1, 1, 0, 0, 0, 8, // CANCEL
        0, 0, 2, RST_STREAM, 0, 0, 0, 0, 3, 9, 9, // too short for an error code
        0, 0, 8, PING, ACK, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8,
    ];

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let whole = [
            Frame::new(SETTINGS, 0, 0),
            Frame::new(DATA, 1, 3),
            Frame::new(RST_STREAM, 257, 4).with_code(8),
            Frame::new(RST_STREAM, 3, 2),
            Frame::new(PING, 0, 8).ack(),
        ];
        for piece in 1..=STREAM.len() {
            let (mut scanner, mut found) = (Scanner::default(), Vec::new());
            for bytes in STREAM.chunks(piece) {
                scanner.scan(bytes, |frame| found.push(frame));
            }
            assert_eq!(found, whole, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_header_block_lasts_to_the_end_of_the_frame_that_ends_it() {
        const BLOCKS: &[u8] = &[
            0,
            0,
            1,
            HEADERS,
            END_HEADERS,
            0,
            0,
            0,
            1,
            9, // a whole block
            0,
            0,
            2,
            HEADERS,
            0,
            0,
            0,
            0,
            3,
            9,
            9, // a block in three frames
            0,
            0,
            0,
            CONTINUATION,
            0,
            0,
            0,
            0,
            3, //
            0,
            0,
            1,
            CONTINUATION,
            END_HEADERS,
            0,
            0,
            0,
            3,
            9, //
            0,
            0,
            1,
            DATA,
            0,
            0,
            0,
            0,
            1,
            9,
        ];
        // After the 9 bytes that begin the frame, up to its last byte but one.
        let open = |at: usize| at == 9 || (10 + 9..10 + 11 + 9 + 10).contains(&at);
        for piece in 1..=BLOCKS.len() {
            let (mut scanner, mut at) = (Scanner::default(), 0);
            for bytes in BLOCKS.chunks(piece) {
                at += bytes.len();
                scanner.scan(bytes, |_| {});
                assert_eq!(scanner.is_in_header_block(), open(at), "{at} in pieces of {piece}");
            }
        }
    }
}
