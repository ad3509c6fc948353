//! What both heads have in common: the limits that an input chooses, and an oracle for heads that were accepted. The
//! oracle reads bytes in the plainest way, so that it shares no mistake with the parsers.

use wscluster_ws::upgrade::HeadLimits;

/// Limits, by the first byte of an input.
pub(super) fn limits(choice: u8) -> HeadLimits {
    let max_bytes = [64, 300, 1_024, 16 << 10][usize::from(choice & 3)];
    let max_headers = [4, 8, 20, HeadLimits::MOST_HEADERS][usize::from(choice >> 2 & 3)];
    HeadLimits { max_bytes, max_headers }
}

/// The lengths after which a head that arrives in pieces is parsed again.
pub(super) fn cuts(len: usize, choice: u8) -> impl Iterator<Item = usize> {
    (0..len).step_by(usize::from(choice % 97) + 1).chain([len])
}

/// The first line of an accepted head, and the names and values of its fields. Panics if any other server could read
/// the same bytes differently (RFC 9112 §11.2).
pub(super) fn fields_of(head: &[u8], limits: HeadLimits) -> (String, Vec<(String, Vec<u8>)>) {
    assert!(head.len() <= limits.max_bytes, "above the limit");
    for (at, byte) in head.iter().enumerate() {
        match byte {
            b'\r' => assert_eq!(head.get(at + 1), Some(&b'\n'), "bare CR at {at}"),
            b'\n' => assert!(at > 0 && head[at - 1] == b'\r', "bare LF at {at}"),
            0 => panic!("NUL at {at}"),
            _ => {}
        }
    }
    let mut rest = head;
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        rest = after;
    }
    let end = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("no empty line");
    assert_eq!(end + 4, rest.len(), "something follows the empty line");
    let mut lines = rest[..end].split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    // A reason phrase may have bytes above 127 (RFC 9112 §4).
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let fields: Vec<_> = lines.map(field).collect();
    assert!(fields.len() <= limits.max_headers, "too many fields");
    (first, fields)
}

fn field(line: &[u8]) -> (String, Vec<u8>) {
    let colon = line.iter().position(|byte| *byte == b':').expect("a field without a colon");
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    assert!(!name.is_empty() && name.iter().all(is_token), "not a field name: {name:?}");
    (String::from_utf8_lossy(name).to_lowercase(), value.trim_ascii().to_vec())
}

/// The values of every field `name`.
pub(super) fn values<'f>(fields: &'f [(String, Vec<u8>)], name: &str) -> Vec<&'f [u8]> {
    fields.iter().filter(|(found, _)| found == name).map(|(_, value)| &value[..]).collect()
}

/// Whether a list field has an element, ignoring case.
pub(super) fn has_element(fields: &[(String, Vec<u8>)], name: &str, element: &str) -> bool {
    values(fields, name).iter().any(|value| {
        value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(element.as_bytes()))
    })
}
