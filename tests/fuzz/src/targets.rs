//! One file a target.

pub(crate) mod boundary;
pub(crate) mod frame_decoder;
mod head;
pub(crate) mod manifest;
pub(crate) mod position;
pub(crate) mod request_head;
pub(crate) mod request_json;
pub(crate) mod response_head;

pub(crate) const HTTP_WORDS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    "\r\n ",
    "\r\n\t",
    "\r\n\r\n",
    ":",
    " :",
    ",",
    "GET ",
    "HEAD ",
    "POST ",
    "PRI * HTTP/2.0\r\n\r\n",
    "HTTP/1.0",
    "HTTP/1.1",
    "HTTP/1.2",
    "http://h",
    "Host: h\r\n",
    "host: other\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: +0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Connection: Upgrade\r\n",
    "Connection: close, upgrade\r\n",
    "Upgrade: websocket\r\n",
    "Upgrade: h2c\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "Sec-WebSocket-Version: 13\r\n",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
    "0\r\n\r\n",
    "101 Switching Protocols",
    "100 Continue",
    "503",
];

pub(crate) const FRAME_WORDS: &[&str] =
    &["\u{1}", "\u{2}", "\0", "\u{9}", "~", "\u{7f}", "\0\0\0\0", "\u{20ac}", "\u{10ffff}"];

pub(crate) const JSON_WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\u0000",
    "\\ud800",
    "null",
    "-1",
    "1e400",
    "18446744073709551616",
    "\"type\":\"subscribe\"",
    "\"type\":\"unsubscribe\"",
    "\"type\":\"heartbeat\"",
    "\"type\":\"reconnect\"",
    "\"id\":",
    "\"data\":{",
    "\"channels\":[",
    "\"since\":{",
    "\"last_offset\":{",
    "\"latest\"",
    "\"90a69297-2-17\"",
    "ffffffff",
    "-2147483647",
    "-9223372036854775807",
    "-9223372036854775808",
    "-",
    "0",
];

pub(crate) const MANIFEST_WORDS: &[&str] = &[
    "\n",
    "  ",
    ": ",
    "- ",
    "{}",
    "[]",
    "null",
    "~",
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "&a ",
    "*a",
    "<<: ",
    "---\n",
    "!!binary ",
    "spec:",
    "replicas:",
    "capacity:",
    "source:",
    "kafka:",
    "topics:",
    "gateway:",
    "delivery:",
    "maxQueueBytes:",
    "100Mi",
    "1ns",
    "99999999999h",
    "'{key}'",
];

/// Splits the two bytes off that choose settings. Every input has a meaning: missing ones are 0.
pub(crate) fn settings(data: &[u8]) -> (u8, u8, &[u8]) {
    match data {
        [first, second, rest @ ..] => (*first, *second, rest),
        [first] => (*first, 0, &[]),
        [] => (0, 0, &[]),
    }
}
