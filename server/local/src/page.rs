//! The page that shows messages in a browser, with a policy that confines it.
//!
//! The page connects to the run's own gateway only, unless the person in front of the browser asked for another
//! address: by the page's own form, or by typing it into the address bar. A link on another site does not count.

use axum::Router;
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::get;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

/// A page without further files, the same as in the docs.
const PAGE: &str = include_str!("../../../docs/demo.html");

/// The query string to which a request for the page without one is redirected.
#[derive(Clone, Debug)]
pub(crate) struct PageLink {
    /// The WebSocket URL to connect to.
    pub(crate) ws: String,
    /// The channels to subscribe to.
    pub(crate) channels: Vec<String>,
}

impl PageLink {
    /// The route of the page.
    pub(crate) fn routes(self) -> Router {
        let home = async move |headers: HeaderMap, Query(query): Query<Vec<(String, String)>>| match query
            .iter()
            .find(|(name, _)| name == "ws")
        {
            Some((_, ws)) => self.page(&headers, ws),
            None => Redirect::temporary(&self.path()).into_response(),
        };
        Router::new().route("/", get(home))
    }

    fn path(&self) -> String {
        format!("/?ws={}&channels={}", escape(&self.ws), escape(&self.channels.join(",")))
    }

    fn page(&self, headers: &HeaderMap, ws: &str) -> Response {
        let asked = is_asked(headers).then(|| origin(ws)).flatten();
        let connect: Vec<_> = origin(&self.ws).into_iter().chain(asked).collect();
        let connect = connect.join(" ");
        let nonce: u128 = rand::random();
        let policy = format!(
            "default-src 'none'; script-src 'nonce-{nonce:x}'; style-src 'nonce-{nonce:x}'; connect-src {connect}; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        );
        let page = PAGE.replacen("<script>", &format!("<script nonce=\"{nonce:x}\">"), 1).replacen(
            "<style>",
            &format!("<style nonce=\"{nonce:x}\">"),
            1,
        );
        let mut response = Html(page).into_response();
        // It consists of visible ASCII characters, as `origin` ensures.
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        response
    }
}

/// Whether a person asked for this page: by its own form or address bar, as browsers report for secure origins, of
/// which 127.0.0.1 is one.
fn is_asked(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin" || site == "none")
}

/// Scheme, host and port of a WebSocket URL, or only the scheme for an IPv6 address, which no policy can express;
/// `None` if they would be anything else in a policy.
fn origin(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte);
    let is_good = matches!(scheme, "ws" | "wss") && end > 0 && rest[..end].bytes().all(is_host);
    let length = if rest.starts_with('[') { 1 } else { 3 + end };
    is_good.then(|| &url[..scheme.len() + length])
}

/// Everything except unreserved characters (RFC 3986 §2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `text` for a query.
fn escape(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> PageLink {
        PageLink { ws: "ws://127.0.0.1:1/ws".into(), channels: vec!["a&b=c".into(), "d é".into()] }
    }

    #[test]
    fn link_survives_any_channel_name() {
        assert_eq!(link().path(), "/?ws=ws%3A%2F%2F127.0.0.1%3A1%2Fws&channels=a%26b%3Dc%2Cd%20%C3%A9");
    }

    fn policy(site: Option<&'static str>, ws: &str) -> String {
        let site = site.map(|site| (header::HeaderName::from_static("sec-fetch-site"), HeaderValue::from_static(site)));
        let response = link().page(&site.into_iter().collect(), ws);
        response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned()
    }

    #[test]
    fn page_is_never_framed_and_connects_elsewhere_only_if_a_person_asks() {
        let (own, other) = ("connect-src ws://127.0.0.1:1;", "connect-src ws://127.0.0.1:1 wss://other.example:2;");
        let url = "wss://other.example:2/ws?a=b";
        for (site, ws, connect) in [
            (Some("cross-site"), url, own),
            (Some("same-site"), url, own),
            (None, url, own),
            (Some("none"), url, other),
            (Some("same-origin"), url, other),
            (Some("none"), "wss://a; script-src *", own),
            (Some("none"), "https://other.example", own),
            (Some("none"), "wss://*", own),
            (Some("none"), "ws://", own),
        ] {
            let policy = policy(site, ws);
            assert!(policy.contains(connect), "{site:?} {ws}: {policy}");
            assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        }
    }

    #[test]
    fn only_the_script_and_the_style_of_the_page_itself_run() {
        assert_eq!((PAGE.matches("<script").count(), PAGE.matches("<style").count()), (1, 1));
        assert!(!PAGE.contains("style=\"") && !PAGE.contains(" onclick"));
        let (one, other) = (policy(None, ""), policy(None, ""));
        assert!(one.contains("script-src 'nonce-") && one != other, "{one}");
    }
}
