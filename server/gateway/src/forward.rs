//! Which fields of a head are forwarded. Pure.
//!
//! Every field is forwarded unchanged, in its order and spelling, except hop-by-hop fields (RFC 9110 §7.6.1) and
//! `X-Wscluster-*`, which belong to the hop between gateway and shard. The client's address is added as the last
//! `X-Forwarded-For` line; lines before it are as trustworthy as their sender.

use std::net::IpAddr;

use wscluster_protocol::hop::FORWARDED_FOR;
use wscluster_ws::upgrade::{Head, Header, Headers, UpgradeRequest};

/// Prefix of the fields between gateway and shard.
const OURS: &str = "x-wscluster-";

/// The request as it is sent to the shard.
pub(crate) fn request(request: &UpgradeRequest<'_>, client: IpAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(request.len + 64);
    for part in [b"GET ", request.target.as_bytes(), b" HTTP/1.1\r\n"] {
        out.extend_from_slice(part);
    }
    copy_fields(&request.headers, &mut out);
    out.extend_from_slice(FORWARDED_FOR.as_bytes());
    out.extend_from_slice(client.to_canonical().to_string().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out
}

/// A shard's 101 as it is sent to the client.
pub(crate) fn switching(head: &Head<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len + 256);
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    copy_fields(&head.headers, &mut out);
    out.extend_from_slice(b"\r\n");
    out
}

/// A shard's final answer as it is sent to the client, with the whole `body`.
pub(crate) fn refusal(head: &Head<'_>, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len + body.len() + 64);
    out.extend_from_slice(format!("HTTP/1.1 {} {}\r\nConnection: close\r\n", head.status, head.reason).as_bytes());
    let nominated = nominated(&head.headers);
    for header in head.headers.iter().filter(|header| passes(header, &nominated)) {
        if !header.is("Connection") && !header.is("Content-Length") {
            out.extend_from_slice(header.line);
        }
    }
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out
}

fn copy_fields(headers: &Headers<'_>, out: &mut Vec<u8>) {
    let nominated = nominated(headers);
    let (mut connection, mut upgrade) = (false, false);
    for header in headers.iter().filter(|header| passes(header, &nominated)) {
        if header.is("Connection") {
            if !std::mem::replace(&mut connection, true) {
                once(&header, b"Connection: Upgrade\r\n", b"upgrade", out);
            }
        } else if header.is("Upgrade") {
            if !std::mem::replace(&mut upgrade, true) {
                once(&header, b"Upgrade: websocket\r\n", b"websocket", out);
            }
        } else {
            out.extend_from_slice(header.line);
        }
    }
}

/// The line as it was sent if its value is exactly `value`, else `line`.
fn once(header: &Header<'_>, line: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(if header.value.eq_ignore_ascii_case(value) { header.line } else { line });
}

/// Fields listed in `Connection`, which are not forwarded. Fields that handshakes, routing or authentication need
/// cannot be listed: RFC 9110 §7.6.1 forbids it, and a client could remove what a proxy before the gateway has set.
fn nominated<'b>(headers: &Headers<'b>) -> Vec<&'b str> {
    let kept = |name: &str| {
        ["host", "upgrade", "origin", "cookie", "authorization", "forwarded", "close", "keep-alive"]
            .iter()
            .any(|kept| name.eq_ignore_ascii_case(kept))
            || starts_with(name, "sec-websocket-")
            || starts_with(name, "x-forwarded-")
    };
    headers.list("Connection").filter(|name| !kept(name)).collect()
}

fn passes(header: &Header<'_>, nominated: &[&str]) -> bool {
    const HOP_BY_HOP: [&str; 7] = [
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
    ];
    let name = header.name;
    let hop_by_hop = match name.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(b'k' | b'p' | b't') => HOP_BY_HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop)),
        _ => false,
    };
    !hop_by_hop && !starts_with(name, OURS) && !nominated.iter().any(|other| name.eq_ignore_ascii_case(other))
}

fn starts_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use wscluster_ws::upgrade::{Answer, HeadLimits, parse_request, parse_response};

    use super::*;

    fn forwarded(fields: &str) -> String {
        let head = format!(
            "GET /ws?a=b HTTP/1.1\r\nHost: h\r\nupGrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n{fields}\r\n"
        );
        let parsed = parse_request(head.as_bytes(), HeadLimits::default()).unwrap().unwrap();
        String::from_utf8(request(&parsed, "::ffff:192.0.2.7".parse().unwrap())).unwrap()
    }

    #[test]
    fn forwards_fields_unchanged_in_order_and_adds_the_address() {
        let fields = "connection: upgrade\r\nCOOKIE:a=b; c=d \r\nSec-WebSocket-Protocol: x\r\nSec-WebSocket-Extensions: \
                      permessage-deflate; client_max_window_bits\r\nX-Forwarded-For: 10.0.0.1\r\n";
        assert_eq!(
            forwarded(fields),
            format!(
                "GET /ws?a=b HTTP/1.1\r\nHost: h\r\nupGrade: websocket\r\nSec-WebSocket-Key: \
                 dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{fields}X-Forwarded-For: 192.0.2.7\r\n\r\n"
            )
        );
    }

    /// The shard accepts every head that the gateway accepts.
    #[test]
    fn a_head_at_the_limit_grows_no_further_than_the_shard_allows() {
        use wscluster_api::spec::GatewayLimits;
        use wscluster_api::units::Size;
        for (max_headers, max_bytes) in [(8, 512), (256, 16 << 10)] {
            let text = "apiVersion: wscluster.dev/v1alpha1\nkind: WsCluster\nmetadata: { name: t }\n\
                        spec: { source: { kafka: { topics: [{ name: t, channel: '{key}' }] } } }\n";
            let mut spec = wscluster_api::manifest::parse(text, std::path::Path::new("test.yaml")).unwrap().spec;
            let limits = GatewayLimits { max_headers, max_head_bytes: Size(max_bytes), ..GatewayLimits::default() };
            spec.gateway.limits = limits;
            let mut head =
                "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: \
                            dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                    .to_owned();
            (5..max_headers - 1).for_each(|_| head += "a:\r\n");
            let pad = max_bytes as usize - head.len() - "a:\r\n\r\n".len();
            head += &format!("a:{}\r\n\r\n", "a".repeat(pad));
            let ours = crate::settings::Settings::new(&spec, std::time::Duration::ZERO, false).head;
            assert_eq!(ours, HeadLimits { max_bytes: head.len(), max_headers: head.matches(':').count() });
            let parsed = parse_request(head.as_bytes(), ours).unwrap().unwrap();
            let sent = request(&parsed, wscluster_protocol::hop::LONGEST_ADDRESS.parse().unwrap());
            let shard = wscluster_protocol::hop::shard_head_limits(&spec.gateway.limits);
            assert!(parse_request(&sent, shard).unwrap().is_some());
            assert_eq!(sent.len(), shard.max_bytes, "no more room than is needed");
        }
    }

    #[test]
    fn does_not_forward_hop_by_hop_fields() {
        let sent = forwarded(
            "Connection: keep-alive, Upgrade, X-Hop, Host, Cookie, Sec-WebSocket-Key\r\nConnection: close\r\nKeep-Alive: \
             5\r\nProxy-Authorization: x\r\nTE: trailers\r\nX-Hop: 1\r\nX-WSCluster-Load: 0/9\r\nCookie: a\r\n",
        );
        for gone in ["Keep-Alive", "Proxy-", "TE:", "X-Hop", "X-WSCluster", "keep-alive", "close"] {
            assert!(!sent.contains(gone), "{gone} in {sent}");
        }
        assert_eq!(sent.matches("Connection: Upgrade\r\n").count(), 1, "{sent}");
        for kept in ["Host: h", "Cookie: a", "Sec-WebSocket-Key: dGhl"] {
            assert!(sent.contains(kept), "{kept} not in {sent}");
        }
    }

    #[test]
    fn forwards_a_refusal_with_its_reason_phrase() {
        let bytes = "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\nX-Why: a\r\nX-Wscluster-Load: 1/2\r\n\r\n";
        let Ok(Some(Answer::Refused(head))) = parse_response(bytes.as_bytes(), HeadLimits::default(), "") else {
            panic!("not refused")
        };
        let sent = String::from_utf8(refusal(&head, b"gone")).unwrap();
        assert_eq!(sent, "HTTP/1.1 404 Not Found\r\nConnection: close\r\nX-Why: a\r\nContent-Length: 4\r\n\r\ngone");
    }

    #[test]
    fn forwards_a_101_without_the_fields_of_the_hop() {
        let bytes = "HTTP/1.1 101 OK\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nX-Wscluster-Load: 1/2\r\nSec-WebSocket-Accept: \
                     s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSet-Cookie: a\r\n\r\n";
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let Ok(Some(Answer::Upgraded(head))) = parse_response(bytes.as_bytes(), HeadLimits::default(), accept) else {
            panic!("not upgraded")
        };
        let sent = String::from_utf8(switching(&head)).unwrap();
        assert_eq!(sent, bytes.replace("X-Wscluster-Load: 1/2\r\n", "").replace("101 OK", "101 Switching Protocols"));
    }
}
