//! Parses upgrade requests: the rules of RFC 6455 §4.2.1 and of HTTP/1.1 framing. They are checked in the order that
//! gives the most useful refusal: first whether this is HTTP at all, then whether it is an upgrade, then what is
//! wrong with it.

use std::mem::MaybeUninit;

use super::headers::ascii;
use super::{HeadLimits, Headers, Refusal, list};

/// A valid upgrade request. Borrows from the bytes that it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpgradeRequest<'b> {
    /// Bytes of the head; the client's first frames follow it.
    pub len: usize,
    /// Path and query as sent, without the scheme and authority of an absolute form.
    pub target: &'b str,
    /// The target up to `?`; begins with `/`.
    pub path: &'b str,
    /// The target after `?`.
    pub query: Option<&'b str>,
    /// `Host`; not empty.
    pub host: &'b str,
    /// `Sec-WebSocket-Key`; 24 characters.
    pub key: &'b str,
    /// `Origin`, which browsers send.
    pub origin: Option<&'b str>,
    /// Every field.
    pub headers: Headers<'b>,
}

impl<'b> UpgradeRequest<'b> {
    /// Subprotocols the client offers, in its order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &'b str> + use<'b> {
        self.headers.list("Sec-WebSocket-Protocol")
    }

    /// Refuses a browser page from an origin that is not in `allowed`; an empty list allows every origin.
    ///
    /// Only browsers send `Origin`, and only a browser can be used by a foreign page, so a request without one passes
    /// (RFC 6455 §10.2).
    pub fn check_origin(&self, allowed: &[String]) -> Result<(), Refusal> {
        let is_allowed = |origin: &str| allowed.iter().any(|one| one.eq_ignore_ascii_case(origin));
        match self.origin {
            Some(origin) if !allowed.is_empty() && !is_allowed(origin) => Err(Refusal::ForbiddenOrigin),
            _ => Ok(()),
        }
    }
}

/// Parses an upgrade request at the start of `buf`; `None` while the head is incomplete.
///
/// Call it again with more bytes appended. A refusal is final and returned as soon as it is certain, so a TLS client
/// on this port is refused at once and not after a timeout.
pub fn parse_request(buf: &[u8], limits: HeadLimits) -> Result<Option<UpgradeRequest<'_>>, Refusal> {
    let window = &buf[..buf.len().min(limits.max_bytes)];
    let mut space = [const { MaybeUninit::uninit() }; HeadLimits::MOST_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let status = httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut request,
        window,
        &mut space[..limits.headers()],
    );
    let len = match status {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if buf.len() >= limits.max_bytes => {
            return Err(Refusal::HeadTooLarge { max: limits.max_bytes });
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(refusal(error, limits)),
    };
    let head = &window[..len];
    if has_bare_lf(head) {
        return Err(Refusal::Malformed("a line ends without CR"));
    }
    if request.method == Some("HEAD") {
        return Err(Refusal::Head);
    }
    if request.version == Some(0) {
        return Err(Refusal::Http10);
    }
    if request.method != Some("GET") {
        return Err(Refusal::Method);
    }
    let (authority, target) = request.path.map_or((None, ""), split_absolute);
    if !is_origin_form(target) {
        return Err(Refusal::Target);
    }
    let fields = Fields::collect(request.headers)?;
    let host = fields.host.and_then(ascii).filter(|host| is_host(host)).ok_or(Refusal::Host)?;
    // A server uses the target and ignores Host (RFC 9112 §3.2.2). Accepted only if both name the same host.
    if authority.is_some_and(|authority| !authority.eq_ignore_ascii_case(host)) {
        return Err(Refusal::Host);
    }
    if fields.has_body {
        return Err(Refusal::Body);
    }
    if !fields.upgrade {
        return Err(Refusal::NoUpgrade);
    }
    if !fields.connection {
        return Err(Refusal::Connection);
    }
    if fields.version != Some(b"13") {
        return Err(Refusal::WsVersion);
    }
    let key = fields.key.and_then(ascii).filter(|key| is_key(key)).ok_or(Refusal::Key)?;
    let origin = match fields.origin {
        Some(origin) => Some(ascii(origin).ok_or(Refusal::Origin)?),
        None => None,
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    Ok(Some(UpgradeRequest { len, target, path, query, host, key, origin, headers: Headers::new(lines(head)) }))
}

/// The fields that the rules need.
#[derive(Default)]
struct Fields<'b> {
    host: Option<&'b [u8]>,
    key: Option<&'b [u8]>,
    version: Option<&'b [u8]>,
    origin: Option<&'b [u8]>,
    upgrade: bool,
    connection: bool,
    has_body: bool,
}

impl<'b> Fields<'b> {
    fn collect(headers: &[httparse::Header<'b>]) -> Result<Self, Refusal> {
        let mut fields = Self::default();
        let once = |slot: &mut Option<&'b [u8]>, value, refusal| match slot.replace(value) {
            Some(_) => Err(refusal),
            None => Ok(()),
        };
        let has = |value, token: &str| list(value).any(|element| element.eq_ignore_ascii_case(token));
        for httparse::Header { name, value } in headers {
            let value = value.trim_ascii();
            // The length of the name excludes most fields with one comparison.
            match name.len() {
                4 if is(name, "Host") => once(&mut fields.host, value, Refusal::Host)?,
                6 if is(name, "Origin") => once(&mut fields.origin, value, Refusal::Duplicate("Origin"))?,
                7 if is(name, "Upgrade") => fields.upgrade |= has(value, "websocket"),
                10 if is(name, "Connection") => fields.connection |= has(value, "upgrade"),
                14 if is(name, "Content-Length") => fields.has_body |= value != b"0",
                17 if is(name, "Transfer-Encoding") => fields.has_body = true,
                17 if is(name, "Sec-WebSocket-Key") => {
                    once(&mut fields.key, value, Refusal::Duplicate("Sec-WebSocket-Key"))?;
                }
                21 if is(name, "Sec-WebSocket-Version") => {
                    once(&mut fields.version, value, Refusal::Duplicate("Sec-WebSocket-Version"))?;
                }
                _ => {}
            }
        }
        Ok(fields)
    }
}

fn is(name: &str, known: &str) -> bool {
    name.eq_ignore_ascii_case(known)
}

fn refusal(error: httparse::Error, limits: HeadLimits) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyHeaders { max: limits.headers() },
        httparse::Error::Version => Refusal::HttpVersion,
        httparse::Error::HeaderName => Refusal::Malformed("a header name has a byte that no name may have"),
        httparse::Error::HeaderValue => Refusal::Malformed("a header value has a control character or is folded"),
        httparse::Error::NewLine => Refusal::Malformed("a line does not end in CR LF"),
        httparse::Error::Token => Refusal::Malformed("the request line is not: GET /path HTTP/1.1"),
        httparse::Error::Status => Refusal::Malformed("this is not a request"),
    }
}

/// `httparse` accepts LF instead of CRLF, as RFC 9112 §2.2 allows; other servers in the chain may not.
pub(super) fn has_bare_lf(head: &[u8]) -> bool {
    let mut before = 0;
    head.iter().any(|&byte| std::mem::replace(&mut before, byte) != b'\r' && byte == b'\n')
}

/// The field lines of a complete head: after the first line and any empty lines before it, without the last CRLF.
pub(super) fn lines(head: &[u8]) -> &[u8] {
    let start = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(head.len());
    let end = head.len().saturating_sub(2);
    match head[start..].iter().position(|byte| *byte == b'\n') {
        Some(newline) => head.get(start + newline + 1..end).unwrap_or_default(),
        None => &[],
    }
}

/// Splits the authority from an absolute form, which a server must accept too (RFC 9112 §3.2.2).
fn split_absolute(target: &str) -> (Option<&str>, &str) {
    let scheme = "http://";
    if !target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)) {
        return (None, target);
    }
    let rest = &target[scheme.len()..];
    match rest.find(['/', '?']) {
        Some(at) => (Some(&rest[..at]), &rest[at..]),
        // An empty path is the root (RFC 9110 §4.2.3).
        None => (Some(rest), "/"),
    }
}

fn is_origin_form(target: &str) -> bool {
    target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// `uri-host [ ":" port ]`, without forms that a proxy might read as another host.
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+;=".contains(&byte))
}

/// Unused bits of the last character may be set: the example of RFC 6455 §4.2.1 has such a key.
fn is_key(key: &str) -> bool {
    key.len() == 24
        && key.ends_with("==")
        && key.as_bytes()[..22].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}
