//! The decoder of frames, against a plain reference.

use wscluster_ws::decode::{Decoder, Event, Flow, Role};

use super::settings;
use crate::reference::{Decoded, Message, decode};

/// The decoder finds the events and the violation that the reference finds, however the stream is cut.
pub fn frame_decoder(data: &[u8]) {
    let (choice, step, stream) = settings(data);
    let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
    let max_message = [0, 125, 1_000, u32::MAX][usize::from(choice >> 1 & 3)];
    let expected = decode(stream, role, max_message);
    for piece in [usize::MAX, usize::from(step % 67) + 1, 1] {
        assert_eq!(in_pieces(stream, role, max_message, piece), expected, "in pieces of {piece}");
    }
}

fn in_pieces(stream: &[u8], role: Role, max_message: u32, piece: usize) -> Decoded {
    let mut decoder = Decoder::new(role, max_message);
    assert!(decoder.is_idle());
    let mut result = Decoded::default();
    for chunk in stream.to_vec().chunks_mut(piece) {
        let flow = decoder.decode(chunk, &mut |event| {
            result.messages.push(owned(&event));
            Flow::Continue
        });
        match flow {
            Ok(flow) => assert_eq!(flow, Flow::Continue),
            Err(violation) => {
                result.violation = Some(violation.code);
                return result;
            }
        }
    }
    result
}

fn owned(event: &Event<'_>) -> Message {
    match event {
        Event::Text(text) => Message { opcode: 1, code: None, payload: text.as_bytes().to_vec() },
        Event::Binary(bytes) => Message { opcode: 2, code: None, payload: bytes.to_vec() },
        Event::Close(code, reason) => Message { opcode: 8, code: *code, payload: reason.as_bytes().to_vec() },
        Event::Ping(bytes) => Message { opcode: 9, code: None, payload: bytes.to_vec() },
        Event::Pong(bytes) => Message { opcode: 10, code: None, payload: bytes.to_vec() },
    }
}
