//! The head of an upgrade request.

use wscluster_ws::upgrade::{Answer, HeadLimits, UpgradeRequest, parse_request, parse_response};

use super::head::{cuts, fields_of, has_element, limits, values};
use super::settings;

/// Every split of a head gives the same result; an accepted head is unambiguous; a refusal is a valid answer.
pub fn request_head(data: &[u8]) {
    let (choice, step, bytes) = settings(data);
    let limits = limits(choice);
    let whole = parse_request(bytes, limits);
    let first = cuts(bytes.len(), step)
        .map(|cut| parse_request(&bytes[..cut], limits))
        .find(|result| !matches!(result, Ok(None)))
        .unwrap_or(Ok(None));
    assert_eq!(first, whole, "the result depends on the pieces");
    match whole {
        Ok(Some(request)) => accepted(&request, bytes, limits),
        Ok(None) => assert!(bytes.len() < limits.max_bytes, "waits beyond the limit"),
        Err(refusal) => {
            let answer = refusal.answer();
            let parsed = parse_response(&answer, HeadLimits::default(), "").expect("the answer is not HTTP");
            let Some(Answer::Refused(head)) = parsed else { panic!("not a final answer") };
            assert_eq!(head.status, refusal.status());
            assert!((400..600).contains(&head.status));
        }
    }
}

fn accepted(request: &UpgradeRequest<'_>, bytes: &[u8], limits: HeadLimits) {
    let head = &bytes[..request.len];
    let (line, fields) = fields_of(head, limits);
    let words: Vec<&str> = line.split(' ').collect();
    let ["GET", target, version] = words[..] else { panic!("not a request line: {line:?}") };
    assert!(version.starts_with("HTTP/1."), "{line:?}");
    assert!(target.ends_with(request.target) || request.target == "/", "{line:?}");
    assert!(request.path.starts_with('/') && request.target.starts_with(request.path));
    assert!(request.target.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(values(&fields, "transfer-encoding").is_empty(), "a body");
    assert!(values(&fields, "content-length").iter().all(|value| *value == b"0"), "a body");
    assert_eq!(values(&fields, "host").len(), 1, "hosts");
    assert!(!request.host.is_empty());
    assert_eq!(values(&fields, "sec-websocket-key"), [request.key.as_bytes()]);
    assert_eq!(request.key.len(), 24);
    assert_eq!(values(&fields, "sec-websocket-version"), [b"13"]);
    assert_eq!(values(&fields, "origin"), request.origin.map(str::as_bytes).as_slice());
    assert!(has_element(&fields, "upgrade", "websocket") && has_element(&fields, "connection", "upgrade"));
    let found: Vec<_> = request.headers.iter().map(|field| (field.name.to_lowercase(), field.value.to_vec())).collect();
    assert_eq!(found, fields, "the iterator finds other fields");

    // What a proxy makes of it is read alike by the next one. In an absolute form, the target names the host.
    let mut again = format!("GET {} HTTP/1.1\r\n", request.target).into_bytes();
    request.headers.iter().for_each(|field| again.extend(field.line));
    again.extend(b"\r\n");
    let second = parse_request(&again, HeadLimits { max_bytes: again.len(), ..limits });
    let second = second.expect("refused the second time").expect("incomplete the second time");
    assert_eq!((second.target, second.key, second.origin), (request.target, request.key, request.origin));
    assert!(second.host == request.host || !target.starts_with('/'));
}
