//! Boundaries of frames in a stream that is only relayed (RFC 6455 §5.2), for a relay that inserts a frame or needs
//! to know whether more frames may follow.
//!
//! Payload is skipped by its length and never read. The state has 16 bytes, and a frame costs a few instructions.

/// The state after the bytes seen so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames {
    /// Remaining payload. While a length is read: its bytes so far.
    left: u64,
    at: At,
    begun: bool,
    closing: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Between frames.
    #[default]
    Start,
    /// Before the byte with the short length.
    Length,
    /// In a longer length.
    Extended { bytes: u8, key: u8 },
    /// In the masking key or the payload.
    Payload,
}

const MASK_BIT: u8 = 0x80;
const MASKING_KEY: u8 = 4;
const CLOSE: u8 = 8;

impl Frames {
    /// Whether a frame may be inserted: the last frame is complete and was not a Close frame (RFC 6455 §5.5.1).
    pub fn at_boundary(&self) -> bool {
        self.at == At::Start && !self.closing
    }

    /// Whether a Close frame has begun. No frame may follow it.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether a Close frame is complete.
    pub fn is_closed(&self) -> bool {
        self.closing && self.at == At::Start
    }

    /// Whether no frame is incomplete.
    pub fn is_empty(&self) -> bool {
        !self.begun
    }

    /// Advances by `bytes`.
    #[inline]
    pub fn pass(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.step(rest);
        }
    }

    /// Advances up to the first end of a frame in `bytes`. Returns the number of bytes up to it; `None` where no
    /// frame ends.
    pub fn pass_one(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.step(rest);
            if self.at == At::Start {
                return Some(bytes.len() - rest.len());
            }
        }
        None
    }

    /// Advances by at least one byte and returns the rest.
    #[inline]
    fn step<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        match (self.at, bytes) {
            (At::Payload, _) => {
                let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= n as u64;
                if self.left == 0 {
                    self.at = At::Start;
                }
                &bytes[n..]
            }
            // The common case: the whole header is in `bytes`.
            (At::Start, [first, length @ (0..126 | 128..254), rest @ ..]) => {
                self.begin(*first);
                self.announced(u64::from((*length & !MASK_BIT) + key(*length)));
                rest
            }
            (At::Start, [first, length @ (126 | 254), high, low, rest @ ..]) => {
                self.begin(*first);
                self.announced(u64::from(u16::from_be_bytes([*high, *low])) + u64::from(key(*length)));
                rest
            }
            (_, [byte, rest @ ..]) => {
                self.header(*byte);
                rest
            }
            (_, []) => bytes,
        }
    }

    fn begin(&mut self, first: u8) {
        self.begun = true;
        self.closing |= first & 0x0f == CLOSE;
    }

    fn announced(&mut self, left: u64) {
        self.left = left;
        self.at = if left == 0 { At::Start } else { At::Payload };
    }

    /// Advances by one byte of a header.
    #[cold]
    fn header(&mut self, byte: u8) {
        match self.at {
            At::Start => {
                self.begin(byte);
                self.at = At::Length;
            }
            At::Length => {
                self.left = 0;
                match byte & !MASK_BIT {
                    126 => self.at = At::Extended { bytes: 2, key: key(byte) },
                    127 => self.at = At::Extended { bytes: 8, key: key(byte) },
                    length => self.announced(u64::from(length + key(byte))),
                }
            }
            At::Extended { bytes, key } => {
                self.left = self.left << 8 | u64::from(byte);
                match bytes {
                    // A frame with a forbidden length never ends: the receiver must fail it.
                    1 => self.announced(self.left.saturating_add(key.into())),
                    _ => self.at = At::Extended { bytes: bytes - 1, key },
                }
            }
            At::Payload => {}
        }
    }
}

/// Length of the masking key, from the second byte of the header.
const fn key(length: u8) -> u8 {
    if length & MASK_BIT == 0 { 0 } else { MASKING_KEY }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::{Opcode, client_frame, server_frame};

    /// Frames with every kind of length, masked or not, and the end of each.
    fn stream(frames: &[(usize, bool)]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for (len, masked) in frames {
            // Payload that looks like headers.
            let payload: Vec<u8> = (0..*len).map(|at| if at % 3 == 0 { 0x88 } else { at as u8 }).collect();
            let frame = if *masked {
                client_frame(Opcode::Binary, &payload, [1, 2, 3, 4])
            } else {
                server_frame(Opcode::Binary, &payload)
            };
            bytes.extend_from_slice(&frame);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn some_frames() -> impl Strategy<Value = Vec<(usize, bool)>> {
        let len = prop_oneof![0..3_usize, 120..130_usize, 65_530..65_540_usize];
        prop::collection::vec((len, any::<bool>()), 1..6)
    }

    #[test]
    fn is_small() {
        assert_eq!(size_of::<Frames>(), 16);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn knows_every_end_however_the_stream_is_cut(frames in some_frames(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30)) {
            let (bytes, ends) = stream(&frames);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut seen = Frames::default();
            for piece in cuts.windows(2) {
                seen.pass(&bytes[piece[0]..piece[1]]);
                prop_assert_eq!(seen.at_boundary(), piece[1] == 0 || ends.contains(&piece[1]));
            }
        }

        #[test]
        fn finds_the_first_end_after_any_position(frames in some_frames(), from: prop::sample::Index, piece in 1..70_000_usize) {
            let (bytes, ends) = stream(&frames);
            let from = from.index(bytes.len());
            let mut seen = Frames::default();
            seen.pass(&bytes[..from]);
            let mut at = from;
            let found = bytes[from..].chunks(piece).find_map(|piece| {
                let end = seen.pass_one(piece);
                at += end.unwrap_or(piece.len());
                end
            });
            prop_assert!(found.is_some());
            prop_assert_eq!(Some(&at), ends.iter().find(|end| **end > from));
        }
    }

    #[test]
    fn byte_by_byte_is_the_same() {
        let (bytes, ends) = stream(&[(0, false), (125, true), (126, false), (65_536, true), (1, false)]);
        let mut seen = Frames::default();
        for (at, byte) in bytes.iter().enumerate() {
            seen.pass(std::slice::from_ref(byte));
            assert_eq!(seen.at_boundary(), ends.contains(&(at + 1)), "after {at}");
        }
    }

    #[test]
    fn lets_nothing_follow_a_close() {
        let mut seen = Frames::default();
        seen.pass(&server_frame(Opcode::Ping, b""));
        assert!(seen.at_boundary() && !seen.is_closing() && !seen.is_closed());
        let close = client_frame(Opcode::Close, b"\x03\xe8", [1, 2, 3, 4]);
        seen.pass(&close[..7]);
        assert!(!seen.at_boundary() && seen.is_closing() && !seen.is_closed());
        seen.pass(&close[7..]);
        assert!(!seen.at_boundary() && seen.is_closing() && seen.is_closed());
    }

    #[test]
    fn is_empty_until_the_first_byte() {
        let mut seen = Frames::default();
        assert!(seen.is_empty());
        seen.pass(b"");
        assert!(seen.is_empty());
        seen.pass(&[0x89]);
        assert!(!seen.is_empty());
        seen.pass(&[0]);
        assert!(!seen.is_empty() && seen.at_boundary());
    }

    #[test]
    fn never_ends_a_frame_of_impossible_length() {
        let mut seen = Frames::default();
        seen.pass(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        seen.pass(&vec![0; 100_000]);
        assert!(!seen.at_boundary());
    }
}
