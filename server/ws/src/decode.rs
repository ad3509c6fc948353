//! A strict, incremental decoder of frames (RFC 6455 §5 and §8.1), for both roles.
//!
//! It accepts any pieces of input, unmasks them in place, checks UTF-8 incrementally, and passes each message or
//! control frame to a sink. It has a buffer only while a message is incomplete, so an idle connection owns none.

use super::close::{INVALID_PAYLOAD, MESSAGE_TOO_BIG, PROTOCOL_ERROR, is_sendable};
use super::frame::{Opcode, mask};

/// The role of the decoding side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The peer must mask its frames.
    Server,
    /// The peer must not mask its frames.
    Client,
}

/// A complete message or control frame. Its bytes are borrowed for the call.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping. The answer is a pong with the same bytes.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// A Close frame; `None`: without a code.
    Close(Option<u16>, &'a str),
}

/// Whether a sink wants more events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Continue with the next event.
    Continue,
    /// Stop decoding: the connection is done.
    Stop,
}

/// Why a connection must be failed (RFC 6455 §7.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Violation {
    /// Code to close with, one of [`super::close`].
    pub code: u16,
    /// The rule that was violated.
    pub reason: &'static str,
}

const fn protocol(reason: &'static str) -> Violation {
    Violation { code: PROTOCOL_ERROR, reason }
}
const NOT_UTF8: Violation = Violation { code: INVALID_PAYLOAD, reason: "text is not UTF-8" };
const TOO_BIG: Violation = Violation { code: MESSAGE_TOO_BIG, reason: "message exceeds the size limit" };

/// Longest header, bytes: two, a length of eight, a key of four.
const MAX_HEADER: usize = 14;

/// A parsed frame header.
#[derive(Clone, Copy, Debug)]
struct Header {
    fin: bool,
    opcode: Opcode,
    len: u64,
    key: Option<[u8; 4]>,
}

/// The decoder and its state between two reads.
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    max_message: u32,
    /// The current frame, and the number of payload bytes read.
    frame: Option<(Header, u64)>,
    /// Type of the current fragmented message.
    message: Option<Opcode>,
    /// Bytes of an incomplete header.
    head: [u8; MAX_HEADER],
    head_len: u8,
    /// The parts of an incomplete message or control frame before the current input.
    partial: Option<Box<Partial>>,
}

/// Buffers of incomplete payloads.
#[derive(Debug, Default)]
struct Partial {
    message: Vec<u8>,
    /// Bytes of `message` known to be UTF-8; text only.
    valid: usize,
    control: Vec<u8>,
}

impl Decoder {
    /// A decoder that fails messages above `max_message` bytes with close code 1009.
    pub fn new(role: Role, max_message: u32) -> Self {
        Self { role, max_message, frame: None, message: None, head: [0; MAX_HEADER], head_len: 0, partial: None }
    }

    /// Whether no message is incomplete: then it is equal to a new decoder.
    pub fn is_idle(&self) -> bool {
        self.frame.is_none() && self.message.is_none() && self.head_len == 0 && self.partial.is_none()
    }

    /// Decodes `input`, unmasking it in place, and passes each event to `sink`. After `Err` or `Stop` the decoder
    /// must not be used again.
    pub fn decode(
        &mut self,
        mut input: &mut [u8],
        sink: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Result<Flow, Violation> {
        loop {
            let (header, done) = match self.frame {
                Some(frame) => frame,
                None => match self.take_header(&mut input)? {
                    Some(header) => (header, 0),
                    None => return Ok(Flow::Continue),
                },
            };
            let take = usize::try_from(header.len - done).unwrap_or(usize::MAX).min(input.len());
            let (chunk, rest) = std::mem::take(&mut input).split_at_mut(take);
            input = rest;
            if let Some(key) = header.key {
                mask(chunk, key, (done % 4) as usize);
            }
            let done = done + take as u64;
            let complete = done == header.len;
            self.frame = (!complete).then_some((header, done));
            let flow = if header.opcode.is_control() {
                self.control(header.opcode, chunk, complete, sink)?
            } else {
                self.data(header, chunk, complete, sink)?
            };
            if flow == Flow::Stop || (input.is_empty() && !complete) {
                return Ok(flow);
            }
        }
    }

    /// Reads the next header; `None` if `input` ends before the header does.
    #[allow(clippy::mut_mut)] // it moves the caller's cursor
    fn take_header(&mut self, input: &mut &mut [u8]) -> Result<Option<Header>, Violation> {
        loop {
            let have = usize::from(self.head_len);
            let need = match have {
                0 | 1 => 2,
                _ => {
                    let masked = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
                    2 + masked
                        + match self.head[1] & 0x7f {
                            126 => 2,
                            127 => 8,
                            _ => 0,
                        }
                }
            };
            if have == 2 {
                // Fails as early as the first two bytes allow.
                self.check_start(self.head[0], self.head[1])?;
            }
            if have >= 2 && have == need {
                self.head_len = 0;
                return self.parse_header(need).map(Some);
            }
            if input.is_empty() {
                return Ok(None);
            }
            let take = (need - have).min(input.len());
            let (head, rest) = std::mem::take(input).split_at_mut(take);
            self.head[have..have + take].copy_from_slice(head);
            self.head_len += take as u8;
            *input = rest;
        }
    }

    fn check_start(&self, first: u8, second: u8) -> Result<(), Violation> {
        if first & 0x70 != 0 {
            return Err(protocol("reserved bits are set"));
        }
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(protocol("reserved opcode"))?;
        let fin = first & 0x80 != 0;
        match (self.role, second & 0x80 != 0) {
            (Role::Server, false) => return Err(protocol("client frame is not masked")),
            (Role::Client, true) => return Err(protocol("server frame is masked")),
            _ => {}
        }
        if opcode.is_control() {
            if !fin {
                return Err(protocol("control frame is fragmented"));
            }
            if second & 0x7f > 125 {
                return Err(protocol("control frame exceeds 125 bytes"));
            }
        } else if opcode == Opcode::Continuation && self.message.is_none() {
            return Err(protocol("continuation without a message"));
        } else if opcode != Opcode::Continuation && self.message.is_some() {
            return Err(protocol("new message before the last one ended"));
        }
        Ok(())
    }

    fn parse_header(&mut self, len: usize) -> Result<Header, Violation> {
        let head = &self.head[..len];
        let opcode = Opcode::from_bits(head[0] & 0x0f).ok_or(protocol("reserved opcode"))?;
        let (payload_len, at) = match head[1] & 0x7f {
            126 => {
                let len = u64::from(u16::from_be_bytes([head[2], head[3]]));
                if len < 126 {
                    return Err(protocol("length is not in its shortest form"));
                }
                (len, 4)
            }
            127 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&head[2..10]);
                let len = u64::from_be_bytes(bytes);
                if len <= 0xffff || len >> 63 != 0 {
                    return Err(protocol("length is not in its shortest form"));
                }
                (len, 10)
            }
            len => (u64::from(len), 2),
        };
        let key = (self.role == Role::Server).then(|| [head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if !opcode.is_control() {
            let before = self.partial.as_ref().map_or(0, |partial| partial.message.len()) as u64;
            if before.saturating_add(payload_len) > u64::from(self.max_message) {
                return Err(TOO_BIG);
            }
        }
        Ok(Header { fin: head[0] & 0x80 != 0, opcode, len: payload_len, key })
    }

    fn control(
        &mut self,
        opcode: Opcode,
        chunk: &[u8],
        complete: bool,
        sink: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Result<Flow, Violation> {
        // Also drops an empty buffer, which an empty fragment may have made.
        if !complete || self.partial.is_some() {
            let partial = self.partial.get_or_insert_default();
            partial.control.extend_from_slice(chunk);
            if !complete {
                return Ok(Flow::Continue);
            }
            let payload = std::mem::take(&mut partial.control);
            self.drop_empty_partial();
            return control_event(opcode, &payload, sink);
        }
        control_event(opcode, chunk, sink)
    }

    fn data(
        &mut self,
        header: Header,
        chunk: &[u8],
        complete: bool,
        sink: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Result<Flow, Violation> {
        let kind = self.message.unwrap_or(header.opcode);
        let last = complete && header.fin;
        let buffered = self.partial.as_ref().is_some_and(|partial| !partial.message.is_empty());
        if last && !buffered {
            self.message = None;
            self.drop_empty_partial();
            return match kind {
                Opcode::Text => Ok(sink(Event::Text(std::str::from_utf8(chunk).map_err(|_| NOT_UTF8)?))),
                _ => Ok(sink(Event::Binary(chunk))),
            };
        }
        // The type is kept between the frames of one message, so that a new start in between fails.
        self.message = Some(kind);
        let partial = self.partial.get_or_insert_default();
        partial.message.extend_from_slice(chunk);
        if kind == Opcode::Text {
            match std::str::from_utf8(&partial.message[partial.valid..]) {
                Ok(_) => partial.valid = partial.message.len(),
                Err(error) if error.error_len().is_some() || last => return Err(NOT_UTF8),
                Err(error) => partial.valid += error.valid_up_to(),
            }
        }
        if !last {
            return Ok(Flow::Continue);
        }
        self.message = None;
        let message = std::mem::take(&mut partial.message);
        partial.valid = 0;
        self.drop_empty_partial();
        Ok(match kind {
            Opcode::Text => sink(Event::Text(std::str::from_utf8(&message).map_err(|_| NOT_UTF8)?)),
            _ => sink(Event::Binary(&message)),
        })
    }

    fn drop_empty_partial(&mut self) {
        if self.partial.as_ref().is_some_and(|partial| partial.message.is_empty() && partial.control.is_empty()) {
            self.partial = None;
        }
    }
}

fn control_event(opcode: Opcode, payload: &[u8], sink: &mut impl FnMut(Event<'_>) -> Flow) -> Result<Flow, Violation> {
    Ok(match (opcode, payload) {
        (Opcode::Ping, _) => sink(Event::Ping(payload)),
        (Opcode::Pong, _) => sink(Event::Pong(payload)),
        (_, []) => sink(Event::Close(None, "")),
        (_, [_]) => return Err(protocol("close frame with half a code")),
        (_, [high, low, reason @ ..]) => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_sendable(code) {
                return Err(protocol("close code must not be sent"));
            }
            sink(Event::Close(Some(code), std::str::from_utf8(reason).map_err(|_| NOT_UTF8)?))
        }
    })
}

#[cfg(test)]
mod tests;
