//! Decides which requests reach the routes: those that no web page can send through the browser of a person who can
//! reach the admin port, and, of calls that change something, those with the right [`Credential`].
//!
//! - **`Host`**: a page whose own name resolves to this address (DNS rebinding) would be of the same origin. Only
//!   names are answered that no public name server can answer for: see [`HostNames`]. Probes and metrics are exempt:
//!   they reveal little, and those who ask for them use all kinds of names.
//! - **`Origin`, `Sec-Fetch-Site`**: calls that change something are refused if another site sent them.
//! - **`Content-Type`**: a body must be JSON. A page may send that type to another origin only after a preflight,
//!   which no admin port grants.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::credential::Credential;
use crate::access::Access;
use crate::drain::{Refusal, RefusalCode};
use crate::token::TokenError;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Paths that are answered under any name.
const ANY_HOST: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// The names by which clients may address an admin port: IP addresses, `localhost` and other names without a dot,
/// names that end in `.svc` or `.cluster.local`, the name of this machine, and those of `--admin-host`.
#[derive(Clone, Debug, Default)]
pub(super) struct HostNames(Vec<String>);

impl HostNames {
    /// The usual names, that of this machine, and `more`.
    pub(super) fn new(more: &[String]) -> Self {
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self(more.iter().cloned().chain([machine.trim().to_owned()]).collect())
    }

    /// Whether `host`, the value of a `Host` field, is one of them.
    fn contains(&self, host: &str) -> bool {
        let Some(name) = name(host) else { return false };
        let lower = name.to_ascii_lowercase();
        name.starts_with('[')
            || name.parse::<std::net::Ipv4Addr>().is_ok()
            || !name.contains('.')
            || [".svc", ".cluster.local"].iter().any(|suffix| lower.ends_with(suffix))
            || self.0.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// The host of `HOST[:PORT]` (RFC 3986 §3.2.2), without the dot that ends a complete name; `None` if it is neither a
/// name nor an address.
fn name(host: &str) -> Option<&str> {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_good = address.parse::<std::net::Ipv6Addr>().is_ok() && is_port(port.strip_prefix(':').unwrap_or(port));
        return is_good.then(|| &host[..address.len() + 2]);
    }
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (!name.is_empty() && name.bytes().all(is_name) && is_port(port)).then_some(name)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether calls of this method leave everything as it is (RFC 9110 §9.2.1).
pub(super) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The rules of one admin port.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    names: HostNames,
    credential: Credential,
}

impl Guard {
    pub(super) fn new(access: &Access) -> Result<Self, TokenError> {
        let credential = Credential::new(access.token_file.as_deref())?;
        Ok(Self { names: HostNames::new(&access.hosts.names), credential })
    }

    /// Why `request` of `peer` is refused, if it is.
    pub(super) fn refusal<B>(&self, request: &Request<B>, peer: SocketAddr) -> Option<RefusalCode> {
        let headers = request.headers();
        if !ANY_HOST.contains(&request.uri().path()) && !is_addressed(request, &self.names) {
            return Some(RefusalCode::ForeignHost);
        }
        if is_safe(request.method()) {
            return None;
        }
        if is_foreign(headers) {
            return Some(RefusalCode::ForeignOrigin);
        }
        let body = (has_body(headers) && !is_json(headers)).then_some(RefusalCode::NotJson);
        self.credential.refusal(peer, headers).or(body)
    }
}

/// Whether the request names this process. Only HTTP/1.0 clients may leave the name out, and no browser does.
fn is_addressed<B>(request: &Request<B>, names: &HostNames) -> bool {
    let target = request.uri().authority().map(axum::http::uri::Authority::as_str);
    let fields = request.headers().get_all(header::HOST).iter().map(HeaderValue::to_str);
    let hosts: Vec<_> = target.map(Ok).into_iter().chain(fields).collect();
    let is_old = request.version() < axum::http::Version::HTTP_11;
    (!hosts.is_empty() || is_old) && hosts.into_iter().all(|host| host.is_ok_and(|host| names.contains(host)))
}

/// Whether a browser reports that a page of another origin sent the request.
fn is_foreign(headers: &HeaderMap) -> bool {
    let is_own_site = |site: &HeaderValue| site == "same-origin" || site == "none";
    let host = headers.get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let is_own_origin = |origin: &HeaderValue| {
        let scheme = origin.as_bytes().windows(3).position(|part| part == b"://");
        scheme.is_some_and(|at| origin.as_bytes()[at + 3..].eq_ignore_ascii_case(host))
    };
    !headers.get_all(SEC_FETCH_SITE).iter().all(is_own_site)
        || !headers.get_all(header::ORIGIN).iter().all(is_own_origin)
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, second) = (types.next(), types.next());
    let text = first.filter(|_| second.is_none()).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// The answer to a refused request.
pub(super) fn answer(code: RefusalCode) -> Response {
    let (status, message) = match code {
        RefusalCode::ForeignHost => (
            StatusCode::MISDIRECTED_REQUEST,
            "the Host field is no name of this process; use an IP address, or add the name with --admin-host",
        ),
        RefusalCode::ForeignOrigin => (StatusCode::FORBIDDEN, "a page of another origin sent this call"),
        RefusalCode::NotJson => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "a body needs the field Content-Type: application/json")
        }
        RefusalCode::NoCredential => (
            StatusCode::UNAUTHORIZED,
            "the call needs the field Authorization: Bearer TOKEN, with the token of --admin-token-file",
        ),
        RefusalCode::OtherMachine => (
            StatusCode::FORBIDDEN,
            "the call comes from another machine; start the process with --admin-token-file to permit that",
        ),
        RefusalCode::BadRequest | RefusalCode::Ending | RefusalCode::Draining => (StatusCode::BAD_REQUEST, ""),
    };
    let mut answer = (status, axum::Json(Refusal { error: code, message: message.to_owned() })).into_response();
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// Adds the fields that keep browsers from showing an answer in a frame or guessing its type.
pub(super) fn harden(headers: &mut HeaderMap) {
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    headers.entry(header::X_FRAME_OPTIONS).or_insert(HeaderValue::from_static("DENY"));
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_only_to_names_that_no_public_name_server_can_answer_for() {
        let names = HostNames(vec!["admin.example.com".to_owned()]);
        let long = "prices-0.prices-shards.default.svc.cluster.local:9090";
        for good in [
            "127.0.0.1:9090",
            "10.1.2.3",
            "[::1]:9090",
            "[fe80::1]",
            "localhost:8081",
            "LOCALHOST.",
            "prices-0",
            "prices-0.prices-shards.default.svc:9090",
            long,
            "Admin.Example.com:9090",
        ] {
            assert!(names.contains(good), "{good}");
        }
        for bad in [
            "",
            ":9090",
            "evil.example:8081",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "svc.evil.example",
            "prices.default.svc.evil.example",
            "cluster.local.evil.example.",
            "[::1",
            "[evil.example]",
            "127.0.0.1:80@evil.example",
            "a b",
        ] {
            assert!(!names.contains(bad), "{bad}");
        }
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert!(HostNames::new(&[]).contains(machine.trim()));
    }
}
