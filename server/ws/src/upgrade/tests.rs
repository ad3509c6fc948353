//! Both parsers: each rule with input that violates it, then properties over arbitrary bytes and splits.

use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { max_bytes: 1_024, max_headers: 16 };
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const GOOD: &str = "GET /ws?token=1 HTTP/1.1\r\nHost: example.com:8080\r\nupgrade: WebSocket\r\nConnection: keep-alive, \
                    Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: \
                    https://example.com\r\nSec-WebSocket-Protocol: wscluster.v1, chat\r\nX-Odd:  spaced \r\n\r\n";

fn refused(request: &str) -> Refusal {
    parse_request(request.as_bytes(), LIMITS).unwrap_err()
}

fn swap(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

#[test]
fn parses_a_valid_upgrade() {
    let bytes = format!("{GOOD}\u{1}frames");
    let request = parse_request(bytes.as_bytes(), LIMITS).unwrap().unwrap();
    assert_eq!((request.len, request.path, request.query), (GOOD.len(), "/ws", Some("token=1")));
    assert_eq!((request.target, request.host, request.key), ("/ws?token=1", "example.com:8080", KEY));
    assert_eq!(request.origin, Some("https://example.com"));
    assert_eq!(request.protocols().collect::<Vec<_>>(), ["wscluster.v1", "chat"]);
    let odd = request.headers.iter().find(|header| header.is("x-odd")).unwrap();
    assert_eq!((odd.value, odd.line), (&b"spaced"[..], &b"X-Odd:  spaced \r\n"[..]));
    let lines: Vec<u8> = request.headers.iter().flat_map(|header| header.line.to_vec()).collect();
    assert!(GOOD.as_bytes().windows(lines.len()).any(|part| part == lines));
}

#[test]
fn ignores_an_empty_line_before_the_request() {
    let bytes = format!("\r\n{GOOD}");
    assert_eq!(parse_request(bytes.as_bytes(), LIMITS).unwrap().unwrap().headers.iter().count(), 8);
}

#[test]
fn accepts_the_key_that_rfc_6455_shows() {
    let bytes = swap(KEY, "AQIDBAUGBwgJCgsMDQ4PEC==");
    assert!(parse_request(bytes.as_bytes(), LIMITS).unwrap().is_some());
}

#[test]
fn refuses_anything_but_an_http_1_1_get() {
    assert_eq!(refused(&swap("GET", "POST")), Refusal::Method);
    assert_eq!(refused(&swap("GET", "get")), Refusal::Method);
    assert_eq!(refused(&swap("HTTP/1.1", "HTTP/1.0")), Refusal::Http10);
    assert_eq!(refused(&swap("HTTP/1.1", "HTTP/2.0")), Refusal::HttpVersion);
    assert_eq!(refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Refusal::HttpVersion);
    assert_eq!(refused("\u{16}\u{3}\u{1}\u{2}").code(), "malformed");
    for target in
        ["https://example.com:8080/ws", "http://example.com:8080?a", "*", "example.com:443", "/ws#part", "/w\u{e4}"]
    {
        assert_eq!(refused(&swap("/ws?token=1", target)), Refusal::Target, "{target}");
    }
}

#[test]
fn accepts_an_absolute_form_that_names_the_same_host() {
    let bytes = swap("/ws?token=1", "HTTP://Example.com:8080/ws?token=1");
    let request = parse_request(bytes.as_bytes(), LIMITS).unwrap().unwrap();
    assert_eq!((request.target, request.path, request.host), ("/ws?token=1", "/ws", "example.com:8080"));
    let bytes = swap("/ws?token=1", "http://example.com:8080");
    assert_eq!(parse_request(bytes.as_bytes(), LIMITS).unwrap().unwrap().target, "/");
    for other in ["http://example.com/ws", "http://other:8080/ws", "http:///ws", "http://a@example.com:8080/ws"] {
        assert_eq!(refused(&swap("/ws?token=1", other)), Refusal::Host, "{other}");
    }
}

#[test]
fn answers_head_without_a_body() {
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        assert_eq!(refused(&swap("GET", "HEAD").replace("HTTP/1.1", version)), Refusal::Head);
    }
    let answer = String::from_utf8(Refusal::Head.answer()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.contains("\r\nAllow: GET\r\n") && answer.contains("\r\nContent-Length: "), "{answer}");
}

#[test]
fn refuses_missing_repeated_and_odd_hosts() {
    for host in
        ["", "X-Other: 1\r\n", "Host:\r\n", "Host: a\r\nhost: a\r\n", "Host: a b\r\n", "Host: a@b\r\n", "Host: a,b\r\n"]
    {
        assert_eq!(refused(&swap("Host: example.com:8080\r\n", host)), Refusal::Host, "{host}");
    }
}

#[test]
fn refuses_origins_that_are_not_listed_and_nothing_else() {
    let request = parse_request(GOOD.as_bytes(), LIMITS).unwrap().unwrap();
    let allowed = |origins: &[&str]| {
        let origins: Vec<_> = origins.iter().map(ToString::to_string).collect();
        request.check_origin(&origins)
    };
    assert_eq!(allowed(&[]), Ok(()));
    assert_eq!(allowed(&["https://other.org", "HTTPS://Example.com"]), Ok(()));
    for other in ["https://other.org", "*", "https://example.com:443"] {
        assert_eq!(allowed(&[other]), Err(Refusal::ForbiddenOrigin), "{other}");
    }
    let without = swap("Origin: https://example.com\r\n", "");
    let request = parse_request(without.as_bytes(), LIMITS).unwrap().unwrap();
    assert_eq!(request.check_origin(&["https://other.org".to_owned()]), Ok(()));
}

#[test]
fn refuses_a_body() {
    for body in ["Content-Length: 5", "Transfer-Encoding: chunked", "Content-Length: 0, 0", "Content-Length: -1"] {
        assert_eq!(refused(&swap("X-Odd:  spaced ", body)), Refusal::Body, "{body}");
    }
    assert!(parse_request(swap("X-Odd:  spaced ", "Content-Length: 0").as_bytes(), LIMITS).unwrap().is_some());
}

#[test]
fn refuses_other_upgrades_and_versions_with_426() {
    for (from, to) in [("upgrade: WebSocket", "Upgrade: h2c"), ("upgrade: WebSocket\r\n", "")] {
        assert_eq!(refused(&swap(from, to)), Refusal::NoUpgrade);
    }
    for version in ["8", "13, 8", "", "013"] {
        assert_eq!(refused(&swap("Version: 13", &format!("Version: {version}"))), Refusal::WsVersion, "{version}");
    }
    assert_eq!(refused(&swap("keep-alive, Upgrade", "keep-alive")), Refusal::Connection);
    let answer = String::from_utf8(Refusal::WsVersion.answer()).unwrap();
    for line in ["HTTP/1.1 426 Upgrade Required", "Sec-WebSocket-Version: 13", "Connection: close, Upgrade"] {
        assert!(answer.lines().any(|found| found == line), "{answer}");
    }
}

#[test]
fn refuses_bad_keys_and_duplicates() {
    for key in
        ["", "dGhlIHNhbXBsZQ==", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25j!Q==", "dGhlIHNhbXBsZSBub25jZQAA"]
    {
        assert_eq!(refused(&swap(KEY, key)), Refusal::Key, "{key}");
    }
    for name in ["Sec-WebSocket-Key", "Sec-WebSocket-Version", "Origin"] {
        let value = if name.ends_with("Key") { KEY } else { "13" };
        assert_eq!(refused(&swap("X-Odd", &format!("{name}: {value}\r\nX-Odd"))), Refusal::Duplicate(name));
    }
}

#[test]
fn refuses_ambiguous_lines() {
    for (from, to) in [
        ("X-Odd:  spaced \r\n", "X-Odd: a\r\n b\r\n"),
        ("X-Odd:  spaced \r\n", "X-Odd: a\n"),
        ("X-Odd:", "X-Odd :"),
        ("X-Odd:", "X Odd:"),
        ("X-Odd:  spaced ", "X-Odd: a\rb"),
        ("X-Odd:  spaced ", "X-Odd: a\0b"),
        ("GET ", "GET  "),
        ("\r\nHost", "\r\n Host"),
        ("HTTP/1.1\r\n", "HTTP/1.1\n"),
    ] {
        assert_eq!(refused(&swap(from, to)).code(), "malformed", "{to:?}");
    }
}

#[test]
fn refuses_heads_above_the_limits_as_soon_as_they_are() {
    let long = swap("spaced", &"a".repeat(1_024));
    assert_eq!(refused(&long), Refusal::HeadTooLarge { max: 1_024 });
    assert_eq!(parse_request(&long.as_bytes()[..1_023], LIMITS), Ok(None));
    let many = swap("X-Odd:  spaced \r\n", &"a: b\r\n".repeat(10));
    assert_eq!(refused(&many), Refusal::TooManyHeaders { max: 16 });
    let exact = HeadLimits { max_bytes: GOOD.len(), ..LIMITS };
    assert!(parse_request(GOOD.as_bytes(), exact).unwrap().is_some());
}

const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: foo, upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[test]
fn computes_the_accept_key_of_rfc_6455_section_1_3() {
    assert_eq!(accept_key(KEY), ACCEPT);
}

#[test]
fn accepts_only_a_valid_101() {
    let with_frame = format!("{SWITCH}\u{1}");
    let Some(Answer::Upgraded(head)) = parse_response(with_frame.as_bytes(), LIMITS, ACCEPT).unwrap() else {
        panic!("not upgraded")
    };
    assert_eq!((head.len, head.status), (SWITCH.len(), 101));
    for (from, to, code) in [
        ("zzhZ", "zzhY", "bad_accept_key"),
        ("Sec-WebSocket-Accept", "X-Accept", "bad_accept_key"),
        ("WebSocket\r\nC", "h2c\r\nC", "bad_upgrade"),
        ("upgrade: WebSocket\r\n", "", "bad_upgrade"),
        ("foo, upgrade", "close", "bad_connection"),
        ("HTTP/1.1 101", "HTTP/1.0 101", "malformed_answer"),
        ("HTTP/1.1 101", "HTTP/1.1 100", "interim_answer"),
        ("HTTP/1.1 101", "SSH-2.0 101", "malformed_answer"),
        ("foo, upgrade\r\n", "foo, upgrade\n", "malformed_answer"),
        ("foo", &"a".repeat(1_024), "answer_too_large"),
    ] {
        assert_eq!(parse_response(SWITCH.replacen(from, to, 1).as_bytes(), LIMITS, ACCEPT).unwrap_err().code(), code);
    }
}

#[test]
fn parses_a_refusal_with_its_fields() {
    let bytes = b"HTTP/1.1 503 Service Unavailable\r\nX-Wscluster-Reason: full\r\n\r\n";
    let Some(Answer::Refused(head)) = parse_response(bytes, LIMITS, ACCEPT).unwrap() else { panic!("no refusal") };
    assert_eq!((head.status, head.headers.get("x-wscluster-reason")), (503, Some("full")));
}

/// Upgrades with some bytes changed, removed or doubled: closer to valid ones than random bytes.
fn near_upgrades() -> impl Strategy<Value = Vec<u8>> {
    let edit = (0..GOOD.len(), any::<u8>(), 0..4_u8);
    (prop::collection::vec(edit, 0..4), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(edits, tail)| {
        let mut bytes = GOOD.as_bytes().to_vec();
        for (at, byte, what) in edits {
            let at = at.min(bytes.len() - 1);
            match what {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, bytes[at]),
                _ => bytes.insert(at, byte),
            }
        }
        bytes.extend(tail);
        bytes
    })
}

proptest! {
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2_048)) {
        let _ = parse_request(&bytes, LIMITS);
        let _ = parse_response(&bytes, LIMITS, ACCEPT);
    }

    #[test]
    fn gives_the_same_result_for_every_split(bytes in near_upgrades(), step in 1..64_usize, max in 200..600_usize) {
        let limits = HeadLimits { max_bytes: max, ..LIMITS };
        let whole = parse_request(&bytes, limits);
        let cuts = (0..bytes.len()).step_by(step).chain([bytes.len()]);
        let first = cuts.map(|cut| parse_request(&bytes[..cut], limits)).find(|result| !matches!(result, Ok(None)));
        prop_assert_eq!(first.unwrap_or(Ok(None)), whole);
    }

    #[test]
    fn an_accepted_request_can_be_rebuilt_from_its_lines(bytes in near_upgrades()) {
        if let Ok(Some(request)) = parse_request(&bytes, LIMITS) {
            let mut again = format!("GET {} HTTP/1.1\r\n", request.target).into_bytes();
            request.headers.iter().for_each(|header| again.extend(header.line));
            again.extend(b"\r\n");
            let second = parse_request(&again, LIMITS).unwrap().unwrap();
            prop_assert_eq!((second.key, second.host, second.origin), (request.key, request.host, request.origin));
            prop_assert_eq!(second.headers.iter().count(), request.headers.iter().count());
        }
    }
}
