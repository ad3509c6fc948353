//! The head of the answer to an upgrade.

use wscluster_ws::upgrade::{Answer, parse_response};

use super::head::{cuts, fields_of, has_element, limits, values};
use super::settings;

const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Every split of a head gives the same result; an accepted head is unambiguous.
pub fn response_head(data: &[u8]) {
    let (choice, step, bytes) = settings(data);
    let limits = limits(choice);
    let whole = parse_response(bytes, limits, ACCEPT);
    let first = cuts(bytes.len(), step)
        .map(|cut| parse_response(&bytes[..cut], limits, ACCEPT))
        .find(|result| !matches!(result, Ok(None)))
        .unwrap_or(Ok(None));
    assert_eq!(first, whole, "the result depends on the pieces");
    let head = match whole {
        Ok(Some(Answer::Upgraded(head) | Answer::Refused(head))) => head,
        Ok(None) => return assert!(bytes.len() < limits.max_bytes, "waits beyond the limit"),
        Err(error) => return assert!(!error.code().is_empty() && !error.to_string().is_empty()),
    };
    let (line, fields) = fields_of(&bytes[..head.len], limits);
    assert!(line.starts_with("HTTP/1.") && line.contains(&head.status.to_string()), "{line:?}");
    let found: Vec<_> = head.headers.iter().map(|field| (field.name.to_lowercase(), field.value.to_vec())).collect();
    assert_eq!(found, fields, "the iterator finds other fields");
    if head.status == 101 {
        assert_eq!(values(&fields, "sec-websocket-accept"), [ACCEPT.as_bytes()]);
        assert!(has_element(&fields, "connection", "upgrade"));
        assert_eq!(values(&fields, "upgrade").len(), 1);
    }
}
