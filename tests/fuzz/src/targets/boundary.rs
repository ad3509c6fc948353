//! The follower of frame boundaries, against a plain reference and against the decoder.

use wscluster_ws::boundary::Frames;
use wscluster_ws::decode::{Decoder, Flow, Role};

use super::settings;

/// The follower finds every end of a frame, however the stream is cut, and agrees with the decoder as long as the
/// decoder finds no violation.
pub fn boundary(data: &[u8]) {
    let (step, from, stream) = settings(data);
    let ends = ends(stream);
    follows_pieces(stream, &ends, usize::from(step % 61) + 1);
    finds_the_next_end(stream, &ends, usize::from(from).min(stream.len()), usize::from(step % 61) + 1);
    agrees_with_the_decoder(stream, Role::Server);
    agrees_with_the_decoder(stream, Role::Client);
}

/// Positions behind each complete frame, and whether the frame is a Close frame.
fn ends(stream: &[u8]) -> Vec<(usize, bool)> {
    let (mut at, mut ends) = (0, Vec::new());
    while let Some(&[first, second]) = stream.get(at..).and_then(<[u8]>::first_chunk::<2>) {
        let length_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(length) = stream.get(at + 2..at + 2 + length_bytes) else { break };
        let long = length.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let len = if length_bytes == 0 { u64::from(second & 0x7f) } else { long };
        let key = if second & 0x80 == 0 { 0 } else { 4 };
        let end = len.saturating_add((at + 2 + length_bytes + key) as u64);
        if end > stream.len() as u64 {
            break;
        }
        at = end as usize;
        ends.push((at, first & 0x0f == 8));
    }
    ends
}

fn is_between(frames: &Frames) -> bool {
    frames.at_boundary() || frames.is_closed()
}

fn follows_pieces(stream: &[u8], ends: &[(usize, bool)], piece: usize) {
    let (mut frames, mut at) = (Frames::default(), 0);
    for chunk in stream.chunks(piece) {
        frames.pass(chunk);
        at += chunk.len();
        assert_eq!(is_between(&frames), ends.iter().any(|(end, _)| *end == at), "after {at}");
        if ends.iter().any(|(end, close)| *end <= at && *close) {
            assert!(frames.is_closing() && !frames.at_boundary(), "after {at}");
        }
        assert!(!frames.is_empty());
    }
}

fn finds_the_next_end(stream: &[u8], ends: &[(usize, bool)], from: usize, piece: usize) {
    let mut frames = Frames::default();
    frames.pass(&stream[..from]);
    let mut at = from;
    for chunk in stream[from..].chunks(piece) {
        let next = ends.iter().map(|(end, _)| *end).find(|end| *end > at && *end <= at + chunk.len());
        let found = frames.pass_one(chunk);
        assert_eq!(found.map(|len| at + len), next, "from {at}");
        let Some(len) = found else {
            at += chunk.len();
            continue;
        };
        frames.pass(&chunk[len..]);
        at += chunk.len();
    }
}

fn agrees_with_the_decoder(stream: &[u8], role: Role) {
    let (mut decoder, mut frames) = (Decoder::new(role, u32::MAX), Frames::default());
    let (mut first, mut open) = (None, false);
    for (at, byte) in stream.iter().enumerate() {
        let first_byte = *first.get_or_insert(*byte);
        let mut events = 0;
        let outcome = decoder.decode(&mut [*byte], &mut |_| {
            events += 1;
            Flow::Continue
        });
        frames.pass(&[*byte]);
        if outcome.is_err() {
            return;
        }
        let (fin, control) = (first_byte & 0x80 != 0, first_byte & 0x08 != 0);
        if is_between(&frames) {
            assert_eq!(events, u32::from(fin || control), "events at the end of a frame at {at}");
            open = if control { open } else { !fin };
            assert_eq!(decoder.is_idle(), !open, "at {at}");
            first = None;
        } else {
            assert_eq!((events, decoder.is_idle()), (0, false), "inside a frame at {at}");
        }
    }
}
