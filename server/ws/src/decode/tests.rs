//! Compares the decoder with tungstenite, an independent implementation, and with itself for any splitting of the
//! input.

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::{Role as TheirRole, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, error::CapacityError};

use super::*;
use crate::frame::{client_frame, server_frame};

const MAX: u32 = 300;

/// An event of either decoder, in a common form.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Violation(u16),
}

/// All events of our decoder, with the input split at `cuts` (shares of the rest, in 255ths).
fn ours(role: Role, input: &[u8], cuts: &[u8]) -> Vec<Seen> {
    let mut decoder = Decoder::new(role, MAX);
    let (mut seen, mut rest, mut cuts) = (Vec::new(), input.to_vec(), cuts.iter());
    while !rest.is_empty() {
        let len = cuts.next().map_or(rest.len(), |cut| rest.len() * usize::from(*cut) / 255);
        let mut piece: Vec<u8> = rest.drain(..len).collect();
        let result = decoder.decode(&mut piece, &mut |event| {
            seen.push(match event {
                Event::Text(text) => Seen::Text(text.to_owned()),
                Event::Binary(bytes) => Seen::Binary(bytes.to_vec()),
                Event::Ping(bytes) => Seen::Ping(bytes.to_vec()),
                Event::Pong(bytes) => Seen::Pong(bytes.to_vec()),
                Event::Close(code, reason) => Seen::Close(code, reason.to_owned()),
            });
            if matches!(seen.last(), Some(Seen::Close(..))) { Flow::Stop } else { Flow::Continue }
        });
        match result {
            Ok(Flow::Continue) => {}
            Ok(Flow::Stop) => break,
            Err(violation) => {
                seen.push(Seen::Violation(violation.code));
                break;
            }
        }
    }
    seen
}

/// All events of tungstenite.
fn theirs(role: Role, input: &[u8]) -> Vec<Seen> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX as usize)).max_frame_size(Some(MAX as usize));
    let role = if role == Role::Server { TheirRole::Server } else { TheirRole::Client };
    let io = Io(std::io::Cursor::new(input.to_vec()));
    let mut socket = WebSocket::from_raw_socket(io, role, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Text(text.to_string()),
            Ok(Message::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Seen::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Seen::Pong(bytes.to_vec()),
            Ok(Message::Close(None)) => Seen::Close(None, String::new()),
            Ok(Message::Close(Some(frame))) => Seen::Close(Some(frame.code.into()), frame.reason.to_string()),
            Err(Error::Utf8(_)) => Seen::Violation(INVALID_PAYLOAD),
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => Seen::Violation(MESSAGE_TOO_BIG),
            Err(Error::Protocol(error)) if !error.to_string().contains("without") => Seen::Violation(PROTOCOL_ERROR),
            Ok(Message::Frame(_)) | Err(_) => break,
        });
        if matches!(seen.last(), Some(Seen::Close(..) | Seen::Violation(_))) {
            break;
        }
    }
    seen
}

/// Reads from memory and discards writes.
struct Io(std::io::Cursor<Vec<u8>>);

impl std::io::Read for Io {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl std::io::Write for Io {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        Ok(buffer.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Text that is mostly UTF-8, with characters of every length.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let text = prop::collection::vec(prop::sample::select(vec!["a", "ß", "€", "𝄞", "{}"]), 0..40);
    prop_oneof![
        6 => text.prop_map(|parts| parts.concat().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (0_usize..400).prop_map(|len| vec![b'x'; len]),
    ]
}

/// Valid frames: messages, some in fragments with pings in between.
fn proper(role: Role) -> impl Strategy<Value = Vec<u8>> {
    let message = (payload(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..4), any::<[u8; 4]>());
    prop::collection::vec(message, 0..6).prop_map(move |messages| {
        let mut bytes = Vec::new();
        for (payload, is_text, cuts, key) in messages {
            let opcode = if is_text { Opcode::Text } else { Opcode::Binary };
            let mut rest = &payload[..];
            for (number, cut) in cuts.iter().enumerate() {
                let (part, tail) = rest.split_at(rest.len() * usize::from(*cut) / 255);
                rest = tail;
                let mut frame = encode(role, if number == 0 { opcode } else { Opcode::Continuation }, part, key);
                frame[0] &= 0x7f;
                bytes.extend(frame);
                if cut % 3 == 0 {
                    bytes.extend(encode(role, if cut % 2 == 0 { Opcode::Ping } else { Opcode::Pong }, b"hi", key));
                }
            }
            bytes.extend(encode(role, if cuts.is_empty() { opcode } else { Opcode::Continuation }, rest, key));
        }
        bytes
    })
}

fn encode(role: Role, opcode: Opcode, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    match role {
        Role::Server => client_frame(opcode, payload, key).to_vec(),
        Role::Client => server_frame(opcode, payload).to_vec(),
    }
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn splitting_the_input_changes_nothing(
        (role, mut input) in role().prop_flat_map(|role| (Just(role), proper(role))),
        cuts in prop::collection::vec(any::<u8>(), 0..20),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        for (at, to) in flips {
            if !input.is_empty() {
                let at = at.index(input.len());
                input[at] = to;
            }
        }
        let whole = ours(role, &input, &[]);
        prop_assert_eq!(&ours(role, &input, &cuts), &whole);
        let bytewise: Vec<Seen> = ours_bytewise(role, &input);
        prop_assert_eq!(&bytewise, &whole);
    }

    #[test]
    fn agrees_with_tungstenite(
        (role, mut input) in role().prop_flat_map(|role| (Just(role), proper(role))),
        flip in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        close in prop::option::of((any::<u16>(), "[a-zß]{0,20}")),
    ) {
        if let Some((code, reason)) = &close {
            let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
            input.extend(encode(role, Opcode::Close, &payload, [7; 4]));
        }
        if let (Some((at, to)), false) = (flip, input.is_empty()) {
            let at = at.index(input.len());
            input[at] = to;
        }
        let is_proper = close.is_none() && flip.is_none();
        let (ours, theirs) = (ours(role, &input, &[]), theirs(role, &input));
        if is_proper {
            prop_assert_eq!(&ours, &theirs);
        }
        prop_assert!(agree(&ours, &theirs), "ours {:?}\ntheirs {:?}\ninput {:02x?}", ours, theirs, input);
    }

    #[test]
    fn never_panics_on_any_bytes(role in role(), input in prop::collection::vec(any::<u8>(), 0..600)) {
        ours(role, &input, &[100, 3, 200]);
    }
}

fn ours_bytewise(role: Role, input: &[u8]) -> Vec<Seen> {
    // Each cut takes the share 1/len.
    let mut seen = Vec::new();
    let mut decoder = Decoder::new(role, MAX);
    for byte in input {
        let result = decoder.decode(&mut [*byte], &mut |event| {
            seen.push(match event {
                Event::Text(text) => Seen::Text(text.to_owned()),
                Event::Binary(bytes) => Seen::Binary(bytes.to_vec()),
                Event::Ping(bytes) => Seen::Ping(bytes.to_vec()),
                Event::Pong(bytes) => Seen::Pong(bytes.to_vec()),
                Event::Close(code, reason) => Seen::Close(code, reason.to_owned()),
            });
            if matches!(seen.last(), Some(Seen::Close(..))) { Flow::Stop } else { Flow::Continue }
        });
        match result {
            Ok(Flow::Continue) => {}
            Ok(Flow::Stop) => return seen,
            Err(violation) => {
                seen.push(Seen::Violation(violation.code));
                return seen;
            }
        }
    }
    seen
}

/// Whether both return the same events up to the first violation, and both find it or only we do: our decoder is
/// stricter, and earlier in incomplete frames.
fn agree(ours: &[Seen], theirs: &[Seen]) -> bool {
    let is_violation = |seen: &&Seen| matches!(seen, Seen::Violation(_));
    let same = ours.iter().zip(theirs).take_while(|(ours, theirs)| ours == theirs).count();
    match (ours.get(same), theirs.get(same)) {
        (None, None) => true,
        (Some(ours), _) => is_violation(&ours),
        (None, Some(_)) => false,
    }
}

#[test]
fn fails_bad_text_before_the_message_ends() {
    // Autobahn 6.4.3: the bad byte is in the middle of a frame that is not complete.
    let frame = client_frame(Opcode::Text, b"\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80 and more", [1, 2, 3, 4]);
    let mut decoder = Decoder::new(Role::Server, 1_000);
    let mut ignore = |_: Event<'_>| Flow::Continue;
    let mut good = frame[..6 + 5].to_vec();
    assert_eq!(decoder.decode(&mut good, &mut ignore), Ok(Flow::Continue));
    let mut bad = frame[6 + 5..6 + 7].to_vec();
    assert_eq!(decoder.decode(&mut bad, &mut ignore), Err(NOT_UTF8));
}

#[test]
fn refuses_a_bad_start_after_two_bytes() {
    for (bytes, reason) in [
        ([0xc1, 0x80], "reserved bits are set"),
        ([0x83, 0x80], "reserved opcode"),
        ([0x81, 0x05], "client frame is not masked"),
        ([0x09, 0x80], "control frame is fragmented"),
        ([0x89, 0xfe], "control frame exceeds 125 bytes"),
        ([0x80, 0x80], "continuation without a message"),
    ] {
        let result = Decoder::new(Role::Server, 1_000).decode(&mut bytes.clone(), &mut |_| Flow::Continue);
        assert_eq!(result.unwrap_err().reason, reason);
    }
}

#[test]
fn refuses_overlong_encodings_of_a_length_and_lengths_above_the_limit() {
    let decode = |bytes: &[u8]| Decoder::new(Role::Server, 1_000).decode(&mut bytes.to_vec(), &mut |_| Flow::Continue);
    let key = [0; 4];
    let shortest = Err(protocol("length is not in its shortest form"));
    assert_eq!(decode(&[&[0x82, 0xfe, 0, 125][..], &key].concat()), shortest);
    assert_eq!(decode(&[&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff][..], &key].concat()), shortest);
    assert_eq!(decode(&[&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0][..], &key].concat()), shortest);
    // Refused by its header: no byte of it is buffered.
    assert_eq!(decode(&[&[0x82, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0][..], &key].concat()), Err(TOO_BIG));
}

#[test]
fn counts_all_fragments_towards_the_limit() {
    let mut bytes = client_frame(Opcode::Binary, &[0; 600], [0; 4]).to_vec();
    bytes[0] &= 0x7f;
    bytes.extend(client_frame(Opcode::Continuation, &[0; 401], [0; 4]));
    assert_eq!(Decoder::new(Role::Server, 1_000).decode(&mut bytes, &mut |_| Flow::Continue), Err(TOO_BIG));
}

#[test]
fn is_idle_between_messages_only() {
    let mut decoder = Decoder::new(Role::Server, 1_000);
    let mut empty_start = client_frame(Opcode::Text, b"", [0; 4]).to_vec();
    empty_start[0] &= 0x7f;
    for (bytes, idle) in [
        (client_frame(Opcode::Text, b"abc", [0; 4]).to_vec(), true),
        (empty_start, false),
        (client_frame(Opcode::Ping, b"abc", [0; 4])[..7].to_vec(), false),
        (b"bc".to_vec(), false),
        (client_frame(Opcode::Continuation, b"abc", [0; 4]).to_vec(), true),
        (vec![0x81], false),
        (vec![0x80, 0, 0, 0, 0], true),
    ] {
        decoder.decode(&mut bytes.clone(), &mut |_| Flow::Continue).unwrap();
        assert_eq!(decoder.is_idle(), idle, "{bytes:02x?}");
    }
}
