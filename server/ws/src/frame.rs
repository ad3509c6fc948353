//! Writes frames (RFC 6455 §5.2) for both roles, and masks payload.

use bytes::{BufMut, Bytes, BytesMut};

/// Frame types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// Continues a fragmented message.
    Continuation = 0,
    /// UTF-8 text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The last frame of a connection.
    Close = 8,
    /// Requests a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

impl Opcode {
    /// The frame type of the low four bits of a header's first byte; `None` for reserved ones.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// Close, ping and pong: never fragmented, 125 bytes at most (RFC 6455 §5.5).
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Writes the header of a final, unmasked frame.
pub fn put_server_header(out: &mut impl BufMut, opcode: Opcode, len: usize) {
    put_header(out, opcode, len, 0);
}

fn put_header(out: &mut impl BufMut, opcode: Opcode, len: usize, mask_bit: u8) {
    out.put_u8(0x80 | opcode as u8);
    if len < 126 {
        out.put_u8(mask_bit | len as u8);
    } else if let Ok(len) = u16::try_from(len) {
        out.put_u8(mask_bit | 126);
        out.put_u16(len);
    } else {
        out.put_u8(mask_bit | 127);
        out.put_u64(len as u64);
    }
}

/// A final, unmasked frame.
pub fn server_frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 10);
    put_server_header(&mut out, opcode, payload.len());
    out.put_slice(payload);
    out.freeze()
}

/// A final frame masked with `key`, as clients send it (RFC 6455 §5.3).
pub fn client_frame(opcode: Opcode, payload: &[u8], key: [u8; 4]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 14);
    put_header(&mut out, opcode, payload.len(), 0x80);
    out.put_slice(&key);
    let start = out.len();
    out.put_slice(payload);
    mask(&mut out[start..], key, 0);
    out.freeze()
}

/// The payload of a Close frame; `reason` is cut to 123 bytes at a character boundary.
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(123)]);
    payload
}

/// Masks or unmasks `payload`, which begins `offset` bytes into its frame's payload.
pub fn mask(payload: &mut [u8], key: [u8; 4], offset: usize) {
    let mut key = key;
    key.rotate_left(offset % 4);
    let word = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_shortest_length() {
        for (len, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            assert_eq!(server_frame(Opcode::Binary, &vec![7; len]).len(), header + len);
        }
    }

    #[test]
    fn masks_like_the_example_of_rfc_6455_section_5_7() {
        let frame = client_frame(Opcode::Text, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(&frame[..], [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn unmasks_piece_by_piece() {
        let plain: Vec<u8> = (0..100).collect();
        for cut in 0..100 {
            let mut masked = plain.clone();
            let (a, b) = masked.split_at_mut(cut);
            mask(a, [1, 2, 3, 4], 0);
            mask(b, [1, 2, 3, 4], cut);
            mask(&mut masked, [1, 2, 3, 4], 0);
            assert_eq!(masked, plain);
        }
    }

    #[test]
    fn cuts_a_close_reason_between_characters() {
        assert_eq!(close_payload(1008, &"ä".repeat(100)).len(), 2 + 122);
    }
}
