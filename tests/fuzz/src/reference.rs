//! A decoder of RFC 6455 written for plainness: it has the whole stream at once, copies everything and keeps no state.

use wscluster_ws::close::{INVALID_PAYLOAD, MESSAGE_TOO_BIG, PROTOCOL_ERROR, is_sendable};
use wscluster_ws::decode::Role;

/// What a stream contains.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) messages: Vec<Message>,
    /// Close code of the violation that ends it.
    pub(crate) violation: Option<u16>,
}

/// A message or a control frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) opcode: u8,
    /// Code of a Close frame.
    pub(crate) code: Option<u16>,
    pub(crate) payload: Vec<u8>,
}

/// Decodes a stream that may end anywhere.
pub(crate) fn decode(stream: &[u8], role: Role, max_message: u32) -> Decoded {
    let mut decoded = Decoded::default();
    decoded.violation = frames(stream, role, u64::from(max_message), &mut decoded.messages).err();
    decoded
}

fn frames(stream: &[u8], role: Role, max_message: u64, messages: &mut Vec<Message>) -> Result<(), u16> {
    let mut rest = stream;
    let mut open: Option<(u8, Vec<u8>)> = None;
    while let Some(&[first, second]) = rest.first_chunk::<2>() {
        let (fin, opcode, control) = (first & 0x80 != 0, first & 0x0f, first & 0x08 != 0);
        let (masked, short) = (second & 0x80 != 0, second & 0x7f);
        let is_known = matches!(opcode, 0..=2 | 8..=10);
        let is_in_order = control || (opcode == 0) == open.is_some();
        let is_control_valid = !control || (fin && short <= 125);
        let is_masked_right = masked == (role == Role::Server);
        if first & 0x70 != 0 || !is_known || !is_in_order || !is_control_valid || !is_masked_right {
            return Err(PROTOCOL_ERROR);
        }
        let length_bytes = [0, 2, 8][usize::from(short > 125) + usize::from(short > 126)];
        let begin = 2 + length_bytes + if masked { 4 } else { 0 };
        if rest.len() < begin {
            return Ok(());
        }
        let long = rest[2..2 + length_bytes].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let len = if length_bytes == 0 { u64::from(short) } else { long };
        let shortest = [0, 126, 65_536][usize::from(length_bytes > 0) + usize::from(length_bytes > 2)];
        if len < shortest || len > i64::MAX as u64 {
            return Err(PROTOCOL_ERROR);
        }
        let before = open.as_ref().map_or(0, |(_, payload)| payload.len() as u64);
        if !control && before + len > max_message {
            return Err(MESSAGE_TOO_BIG);
        }
        let key = if masked { &rest[begin - 4..begin] } else { &[0; 4] };
        let have = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len() - begin);
        let payload = rest[begin..begin + have].iter().enumerate();
        let payload: Vec<u8> = payload.map(|(at, byte)| byte ^ key[at % 4]).collect();
        let complete = have as u64 == len;
        if control {
            if complete {
                messages.push(control_frame(opcode, payload)?);
            }
        } else {
            let (kind, mut message) = open.take().unwrap_or((opcode, Vec::new()));
            message.extend(payload);
            let last = fin && complete;
            if kind == 1
                && let Err(error) = str::from_utf8(&message)
                && (last || error.error_len().is_some())
            {
                return Err(INVALID_PAYLOAD);
            }
            if last {
                messages.push(Message { opcode: kind, code: None, payload: message });
            } else {
                open = Some((kind, message));
            }
        }
        if !complete {
            return Ok(());
        }
        rest = &rest[begin + have..];
    }
    Ok(())
}

fn control_frame(opcode: u8, payload: Vec<u8>) -> Result<Message, u16> {
    if opcode != 8 || payload.is_empty() {
        return Ok(Message { opcode, code: None, payload });
    }
    let Some((code, reason)) = payload.split_first_chunk::<2>() else { return Err(PROTOCOL_ERROR) };
    let code = u16::from_be_bytes(*code);
    if !is_sendable(code) {
        return Err(PROTOCOL_ERROR);
    }
    if str::from_utf8(reason).is_err() {
        return Err(INVALID_PAYLOAD);
    }
    Ok(Message { opcode, code: Some(code), payload: reason.to_vec() })
}
