//! Answers that refuse an upgrade: [`Refusal`] for a request that is wrong or not allowed, [`Unavailable`] for one
//! without a slot.
//!
//! [`Refusal`] is the one list of these reasons; metrics use [`Refusal::code`] as a label.

use std::io::Write as _;

/// Header field of a 503 that names its reason.
pub const REASON: &str = "X-Wscluster-Reason";

/// Why a request is refused, regardless of free slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not an HTTP head (RFC 9112 §2.2, §5).
    #[error("the request is not well formed: {0}")]
    Malformed(&'static str),
    /// HTTP/1.0 has no upgrade (RFC 6455 §4.2.1).
    #[error("a WebSocket upgrade needs HTTP/1.1, not HTTP/1.0")]
    Http10,
    /// Neither HTTP/1.0 nor HTTP/1.1, e.g. the preface of HTTP/2 (RFC 9110 §15.6.6).
    #[error("only HTTP/1.1 is supported here")]
    HttpVersion,
    /// RFC 6455 §4.1.
    #[error("a WebSocket upgrade is a GET")]
    Method,
    /// The method is HEAD, whose answer has no body (RFC 9110 §9.3.2).
    #[error("a WebSocket upgrade is a GET")]
    Head,
    /// Authority form and asterisk form are for other methods (RFC 9112 §3.2).
    #[error("the request target must be a path or http://HOST/path, in printable ASCII without #")]
    Target,
    /// RFC 9112 §3.2.
    #[error("exactly one Host field with a host name is needed")]
    Host,
    /// Bytes behind the head must be frames (RFC 6455 §4.1).
    #[error("a WebSocket upgrade has no body: remove Content-Length and Transfer-Encoding")]
    Body,
    /// A field that may occur only once.
    #[error("{0} may be sent only once")]
    Duplicate(&'static str),
    /// RFC 9110 §15.5.22.
    #[error("this is a WebSocket endpoint: send Upgrade: websocket")]
    NoUpgrade,
    /// RFC 6455 §4.2.1. Missing if a proxy in between does not forward upgrades.
    #[error("the Connection field must list Upgrade; does a proxy in between remove it?")]
    Connection,
    /// RFC 6455 §4.2.2.
    #[error("the WebSocket version must be 13")]
    WsVersion,
    /// RFC 6455 §4.1.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64")]
    Key,
    /// RFC 6454 §7.
    #[error("Origin is not readable ASCII")]
    Origin,
    /// RFC 6585 §5.
    #[error("the request head is above {max} bytes")]
    HeadTooLarge {
        /// The limit.
        max: usize,
    },
    /// RFC 6585 §5.
    #[error("the request has more than {max} header fields")]
    TooManyHeaders {
        /// The limit.
        max: usize,
    },
    /// RFC 9110 §15.5.9.
    #[error("the request head did not arrive in time")]
    HeadTimeout,
    /// The client has not identified itself (RFC 9110 §15.5.2).
    #[error("this request needs valid credentials")]
    Unauthorized,
    /// The client is known and may not connect (RFC 9110 §15.5.4).
    #[error("this client may not connect")]
    Forbidden,
    /// `allowedOrigins` (RFC 6455 §10.2).
    #[error("this Origin may not connect")]
    ForbiddenOrigin,
    /// No such endpoint.
    #[error("no WebSocket endpoint at this path; try /ws")]
    NotFound,
}

impl Refusal {
    /// HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::Method | Self::Head => 405,
            Self::HttpVersion => 505,
            Self::NoUpgrade | Self::WsVersion => 426,
            Self::HeadTooLarge { .. } | Self::TooManyHeaders { .. } => 431,
            Self::HeadTimeout => 408,
            Self::Unauthorized => 401,
            Self::Forbidden | Self::ForbiddenOrigin => 403,
            Self::NotFound => 404,
            _ => 400,
        }
    }

    /// All that [`Self::code`] can give, so that metrics have a series for each from the start.
    pub const CODES: [&str; 20] = [
        "malformed",
        "http_1_0",
        "http_version",
        "method",
        "target",
        "host",
        "body",
        "duplicate_header",
        "no_upgrade",
        "connection",
        "websocket_version",
        "key",
        "origin",
        "head_too_large",
        "too_many_headers",
        "head_timeout",
        "unauthorized",
        "forbidden",
        "forbidden_origin",
        "not_found",
    ];

    /// The word for machines: `error` in the JSON body, and a metric label.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Http10 => "http_1_0",
            Self::HttpVersion => "http_version",
            Self::Method | Self::Head => "method",
            Self::Target => "target",
            Self::Host => "host",
            Self::Body => "body",
            Self::Duplicate(_) => "duplicate_header",
            Self::NoUpgrade => "no_upgrade",
            Self::Connection => "connection",
            Self::WsVersion => "websocket_version",
            Self::Key => "key",
            Self::Origin => "origin",
            Self::HeadTooLarge { .. } => "head_too_large",
            Self::TooManyHeaders { .. } => "too_many_headers",
            Self::HeadTimeout => "head_timeout",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::ForbiddenOrigin => "forbidden_origin",
            Self::NotFound => "not_found",
        }
    }

    /// The whole answer, with `Connection: close` and, except for HEAD, a JSON body `{"error":…,"message":…}`.
    pub fn answer(self) -> Vec<u8> {
        let fields: &[(&str, &str)] = match self {
            Self::Method | Self::Head => &[("Allow", "GET")],
            // Required in a 401 (RFC 9110 §11.6.1).
            Self::Unauthorized => &[("WWW-Authenticate", "Bearer")],
            Self::NoUpgrade | Self::WsVersion => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
            _ => &[],
        };
        let body = serde_json::json!({ "error": self.code(), "message": self.to_string() });
        let mut out = Vec::with_capacity(256);
        write_answer(&mut out, self.status(), fields, &body);
        if self == Self::Head
            && let Some(end) = out.windows(4).position(|four| four == b"\r\n\r\n")
        {
            out.truncate(end + 4);
        }
        out
    }
}

/// `503 Service Unavailable` (RFC 9110 §15.6.4), the answer of shards and gateways to a valid upgrade for which there
/// is no slot.
#[derive(Clone, Copy, Debug)]
pub struct Unavailable<'a> {
    /// A word for machines: `X-Wscluster-Reason`, and `reason` in the body.
    pub reason: &'a str,
    /// A sentence for people, in the body.
    pub message: Option<&'a str>,
    /// When the client may retry. Draw a value for each client, so that clients refused together do not return
    /// together.
    pub retry_after_ms: u64,
    /// Further header fields.
    pub fields: &'a [(&'a str, &'a str)],
}

impl Unavailable<'_> {
    /// The whole answer, with `Retry-After` and a JSON body `{"error":"unavailable","reason":…,"retry_after_ms":…}`.
    pub fn answer(self) -> Vec<u8> {
        // The field has whole seconds only (RFC 9110 §10.2.3); 0 would make every client retry at once.
        let seconds = self.retry_after_ms.div_ceil(1_000).max(1).to_string();
        let mut body = serde_json::json!({
            "error": "unavailable", "reason": self.reason, "retry_after_ms": self.retry_after_ms.max(1),
        });
        if let Some(message) = self.message {
            body["message"] = message.into();
        }
        let mut fields = vec![("Retry-After", &*seconds), (REASON, self.reason)];
        fields.extend_from_slice(self.fields);
        let mut out = Vec::with_capacity(256);
        write_answer(&mut out, 503, &fields, &body);
        out
    }
}

/// Writes an answer that ends the connection: status, `fields`, and `body` as JSON.
fn write_answer(out: &mut Vec<u8>, status: u16, fields: &[(&str, &str)], body: &serde_json::Value) {
    let body = body.to_string();
    // A sender of Upgrade lists it in Connection too (RFC 9110 §7.8).
    let connection = if status == 426 { "close, Upgrade" } else { "close" };
    let head = |out: &mut Vec<u8>| -> std::io::Result<()> {
        write!(out, "HTTP/1.1 {status} {}\r\nConnection: {connection}\r\n", reason_phrase(status))?;
        for (name, value) in fields {
            write!(out, "{name}: {value}\r\n")?;
        }
        write!(out, "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    head(out).expect("writing to a Vec cannot fail");
}

const fn reason_phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::Unavailable;

    #[test]
    fn tells_an_unavailable_client_when_to_come_back_in_seconds_and_in_milliseconds() {
        for (retry_after_ms, seconds, millis) in [(0, 1, 1), (100, 1, 100), (1_000, 1, 1_000), (1_001, 2, 1_001)] {
            let fields = &[("X-Wscluster-Load", "5/5")];
            let answer = Unavailable { reason: "full", message: Some("no slot"), retry_after_ms, fields }.answer();
            let answer = String::from_utf8(answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let lines: Vec<_> = head.lines().collect();
            assert_eq!(lines[0], "HTTP/1.1 503 Service Unavailable");
            for line in [&*format!("Retry-After: {seconds}"), "X-Wscluster-Reason: full", "X-Wscluster-Load: 5/5"] {
                assert!(lines.contains(&line), "{line} is not in {head}");
            }
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            let expected = serde_json::json!({
                "error": "unavailable", "reason": "full", "retry_after_ms": millis, "message": "no slot",
            });
            assert_eq!(body, expected);
        }
    }
}
