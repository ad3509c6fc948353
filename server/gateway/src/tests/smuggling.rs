//! Requests that two servers in a chain could read differently: each is refused with the right status before a shard is
//! asked, or reaches the shard byte by byte. The cases are in `smuggling.yaml`.

use std::sync::atomic::Ordering::SeqCst;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use wscluster_ws::upgrade::parse_request;

use super::rig::{FakeShard, KEY, Rig, Script, Wire, good, settings};

struct Case {
    name: String,
    head: Vec<u8>,
    after: Vec<u8>,
    right: Right,
}

enum Right {
    Refused {
        status: u16,
        code: String,
    },
    /// The fields that the shard must receive.
    Forwarded(Vec<u8>),
}

/// A character is one byte.
fn bytes(value: &Value) -> Vec<u8> {
    value.as_str().unwrap_or_default().chars().map(|char| u8::try_from(u32::from(char)).unwrap()).collect()
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = text.windows(from.len()).position(|part| part == from).unwrap();
    [&text[..at], to, &text[at + from.len()..]].concat()
}

/// The lines behind the request line, without the empty one.
fn fields_of(head: &[u8]) -> &[u8] {
    let start = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap();
    let line = head[start..].iter().position(|byte| *byte == b'\n').unwrap();
    &head[start + line + 1..head.len() - 2]
}

fn cases() -> Vec<Case> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/smuggling.yaml");
    let cases: Vec<Value> = serde_yaml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert!(cases.len() > 70, "{} cases", cases.len());
    cases.iter().map(case).collect()
}

fn case(case: &Value) -> Case {
    let name = case["name"].as_str().unwrap().to_owned();
    let good = good("").strip_suffix("\r\n").unwrap().as_bytes().to_vec();
    let mut head = if case["bytes"].is_string() {
        bytes(&case["bytes"])
    } else {
        let fields = bytes(&case["fields"]).repeat(case["times"].as_u64().unwrap_or(1) as usize);
        let start = match case["replace"].as_array() {
            Some(pair) => replace(&good, &bytes(&pair[0]), &bytes(&pair[1])),
            None => good.clone(),
        };
        [&start, &fields[..], b"\r\n"].concat()
    };
    if let Some(pad) = case["pad"].as_u64() {
        head = replace(&head, b"PAD", &vec![b'a'; pad as usize]);
    }
    let right = match (case["refused"].as_array(), case["forwarded"].as_str()) {
        (Some(refused), None) => Right::Refused {
            status: refused[0].as_u64().unwrap() as u16,
            code: refused[1].as_str().unwrap().to_owned(),
        },
        (None, Some("unchanged")) => Right::Forwarded(fields_of(&head).to_vec()),
        (None, Some(_)) => Right::Forwarded([fields_of(&good_head(&good)), &bytes(&case["forwarded"])].concat()),
        _ => panic!("{name}: neither refused nor forwarded"),
    };
    Case { name, head, after: bytes(&case["after"]), right }
}

fn good_head(good: &[u8]) -> Vec<u8> {
    [good, b"\r\n"].concat()
}

impl Case {
    fn request(&self) -> Vec<u8> {
        [&self.head[..], &self.after].concat()
    }
}

#[test]
fn the_parser_reads_each_request_in_one_way_however_it_arrives() {
    let limits = settings().head;
    for case in cases() {
        let request = case.request();
        let whole = parse_request(&request, limits);
        match (&case.right, &whole) {
            (Right::Refused { status, code }, Err(refusal)) => {
                assert_eq!((refusal.status(), refusal.code()), (*status, &**code), "{}", case.name);
            }
            (Right::Forwarded(_), Ok(Some(parsed))) => assert_eq!(parsed.len, case.head.len(), "{}", case.name),
            (_, other) => panic!("{}: {other:?}", case.name),
        }
        let mut cuts = (0..request.len().min(limits.max_bytes * 2)).map(|cut| parse_request(&request[..cut], limits));
        let first = cuts.find(|result| !matches!(result, Ok(None)));
        assert!(first.is_none_or(|first| first == whole), "{}", case.name);
    }
}

#[tokio::test]
async fn a_gateway_refuses_each_request_or_forwards_it_byte_by_byte() {
    let unasked = FakeShard::start(Script::Serve, 9).await;
    let refusing = Rig::start(&[&unasked], settings());
    for case in cases() {
        match &case.right {
            Right::Refused { status, code } => is_refused(&refusing, &case, *status, code).await,
            Right::Forwarded(fields) => is_forwarded(&case, fields).await,
        }
    }
    assert_eq!(unasked.asked.load(SeqCst), 0);
    refusing.settled().await;
}

async fn is_refused(rig: &Rig, case: &Case, status: u16, code: &str) {
    let mut wire = rig.connect().await;
    // The gateway may answer and close before it has read everything.
    let _ = wire.0.write_all(&case.request()).await;
    let answer = wire.final_answer().await;
    assert_eq!(answer.status, status, "{}: {answer:?}", case.name);
    assert!(answer.head.contains("\r\nConnection: close"), "{}: {answer:?}", case.name);
    let length = format!("Content-Length: {}", answer.rest.len());
    assert!(answer.has(&length), "{}: not one answer: {answer:?}", case.name);
    let body: Value = serde_json::from_slice(&answer.rest).unwrap();
    assert_eq!(body["error"], code, "{}", case.name);
}

async fn is_forwarded(case: &Case, fields: &[u8]) {
    let shard = FakeShard::start(Script::Serve, 9).await;
    let rig = Rig::start(&[&shard], settings());
    let mut wire: Wire = rig.connect().await;
    wire.0.write_all(&case.request()).await.unwrap();
    let answer = wire.answer().await;
    assert_eq!(answer.status, 101, "{}: {answer:?}", case.name);
    let echoed = wire.bytes(case.after.len() - answer.rest.len()).await;
    assert_eq!([answer.rest, echoed].concat(), case.after, "{}", case.name);
    let received = shard.received.lock().unwrap().clone();
    let head = [b"GET /ws HTTP/1.1\r\n", fields, b"X-Forwarded-For: 127.0.0.1\r\n\r\n"].concat();
    let right = [&head[..], &case.after].concat();
    assert_eq!(received.escape_ascii().to_string(), right.escape_ascii().to_string(), "{}", case.name);
    let parsed = parse_request(&received, settings().head).unwrap().unwrap();
    assert_eq!((parsed.len, parsed.path, parsed.host, parsed.key), (head.len(), "/ws", "h", KEY), "{}", case.name);
}
