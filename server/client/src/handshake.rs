//! The opening handshake of RFC 6455 §4.1 on a connected TCP socket.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use base64::Engine as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use wscluster_protocol::close::retry_after;
use wscluster_ws::upgrade::{Answer, AnswerError, Head, HeadLimits, accept_key, parse_response};

use super::{Endpoint, Retry};

/// The subprotocol whose first message is `hello`.
pub const SUBPROTOCOL: &str = "wscluster.v1";

/// Bytes read of the body of a refusal.
const MAX_BODY: usize = 4_096;

/// Time for the rest of that body.
const BODY_TIME: Duration = Duration::from_secs(1);

/// The step in which a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The TCP connection.
    Connect,
    /// The request was sent and nothing was received.
    FirstByte,
    /// Part of the answer was received.
    Head,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::FirstByte => "first byte",
            Self::Head => "head",
        })
    }
}

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// An error of the socket.
    #[error("{1}")]
    Io(Stage, #[source] io::Error),
    /// The server ended the connection.
    #[error("the server ended the connection before its answer was complete")]
    Ended(Stage),
    /// The time limit was reached.
    #[error("the server did not answer within {1:?}")]
    Timeout(Stage, Duration),
    /// An answer other than 101.
    #[error("{0}")]
    Refused(Refusal),
    /// `Sec-WebSocket-Accept` is missing or wrong.
    #[error("the server sent a wrong Sec-WebSocket-Accept")]
    AcceptKey,
    /// The 101 lacks a required header, or names an extension or subprotocol that was not offered.
    #[error("the server sent a wrong or unexpected upgrade header")]
    UpgradeHeader,
    /// The 101 does not select [`SUBPROTOCOL`], which was offered.
    #[error("the server does not support the subprotocol {SUBPROTOCOL}")]
    Subprotocol,
    /// The answer is not an HTTP/1.1 response head, or too large.
    #[error("the server did not answer with HTTP/1.1")]
    NotHttp,
}

impl HandshakeError {
    /// When to try again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Refused(refusal) => refusal.retry(),
            Self::Subprotocol => Retry::NEVER,
            _ => Retry::JITTER,
        }
    }
}

/// An answer other than 101.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Reason phrase of the status.
    pub phrase: String,
    /// `X-Wscluster-Reason`.
    pub reason: Option<String>,
    /// `retry_after_ms` of the body, or `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The body as far as it was received, at most 4 KiB.
    pub body: String,
}

impl Refusal {
    /// When to try again.
    pub fn retry(&self) -> Retry {
        Retry::of_status(self.status, self.retry_after)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        let detail = self.reason.as_deref().unwrap_or(self.body.trim());
        [self.phrase.as_str(), detail].iter().filter(|part| !part.is_empty()).try_for_each(|part| write!(f, " {part}"))
    }
}

/// An upgrade request with a key of its own.
#[derive(Clone, Debug)]
pub struct Request {
    text: String,
    accept: String,
    offers_subprotocol: bool,
}

impl Request {
    /// A request for `endpoint`. `headers` are further header lines, each with its CRLF; see [`header_lines`].
    pub fn new(endpoint: &Endpoint, headers: &str) -> Self {
        Self::build(endpoint, headers, false)
    }

    /// The same, offering [`SUBPROTOCOL`].
    pub fn with_subprotocol(endpoint: &Endpoint, headers: &str) -> Self {
        Self::build(endpoint, headers, true)
    }

    fn build(endpoint: &Endpoint, headers: &str, offers_subprotocol: bool) -> Self {
        let key = base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 16]>());
        let Endpoint { host, path } = endpoint;
        let mut text = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        );
        if offers_subprotocol {
            text += &format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n");
        }
        text += headers;
        text += "\r\n";
        Self { text, accept: accept_key(&key), offers_subprotocol }
    }
}

/// A name or value that cannot stand in a header.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an HTTP header; write NAME=VALUE with a token as name and no line break")]
pub struct HeaderError(String);

/// Header lines for [`Request::new`].
pub fn header_lines<'h>(headers: impl IntoIterator<Item = (&'h str, &'h str)>) -> Result<String, HeaderError> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    headers.into_iter().try_fold(String::new(), |lines, (name, value)| {
        let is_name = !name.is_empty() && name.bytes().all(token);
        if !is_name || value.bytes().any(|b| (b < b' ' && b != b'\t') || b == 0x7f) {
            return Err(HeaderError(format!("{name}={value}")));
        }
        Ok(lines + name + ": " + value + "\r\n")
    })
}

/// The end of a successful handshake.
#[derive(Debug)]
pub struct Upgraded {
    /// Bytes received after the 101.
    pub rest: Vec<u8>,
    /// When the 101 was complete.
    pub at: Instant,
}

/// Connects to `endpoint`, with a time limit of `limit`.
pub async fn connect(endpoint: &Endpoint, limit: Duration) -> Result<TcpStream, HandshakeError> {
    let failed = |error| HandshakeError::Io(Stage::Connect, error);
    let connecting = timeout(limit, TcpStream::connect(endpoint.address())).await;
    let stream = connecting.map_err(|_| HandshakeError::Timeout(Stage::Connect, limit))?.map_err(failed)?;
    // As browsers do: small frames must not wait for acknowledgements of earlier ones.
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

/// Sends `request` and reads the answer, both within `limit`. `first_byte` is set when the answer begins, also if the
/// handshake fails later.
pub async fn upgrade(
    stream: &TcpStream,
    request: &Request,
    limit: Duration,
    first_byte: &mut Option<Instant>,
) -> Result<Upgraded, HandshakeError> {
    let mut stage = Stage::FirstByte;
    let exchange = exchange(stream, request, first_byte, &mut stage);
    match timeout(limit, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(HandshakeError::Timeout(stage, limit)),
    }
}

async fn exchange(
    stream: &TcpStream,
    request: &Request,
    first_byte: &mut Option<Instant>,
    stage: &mut Stage,
) -> Result<Upgraded, HandshakeError> {
    let mut unsent = request.text.as_bytes();
    while !unsent.is_empty() {
        match stream.try_write(unsent) {
            Ok(n) => unsent = &unsent[n..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                stream.writable().await.map_err(|e| HandshakeError::Io(*stage, e))?;
            }
            Err(e) => return Err(HandshakeError::Io(*stage, e)),
        }
    }
    let mut buf = Vec::with_capacity(1_024);
    loop {
        let n = read(stream, &mut buf).await.map_err(|e| HandshakeError::Io(*stage, e))?;
        if n == 0 {
            return Err(HandshakeError::Ended(*stage));
        }
        let at = Instant::now();
        first_byte.get_or_insert(at);
        *stage = Stage::Head;
        let len = match parse_response(&buf, HeadLimits::default(), &request.accept) {
            Ok(None) => continue,
            Ok(Some(Answer::Upgraded(head))) => check_offers(request, &head)?,
            Ok(Some(Answer::Refused(head))) => {
                let (refusal, body_at) = (refusal(&head), head.len);
                return Err(HandshakeError::Refused(with_body(stream, refusal, buf, body_at).await));
            }
            Err(AnswerError::Accept) => return Err(HandshakeError::AcceptKey),
            Err(AnswerError::Upgrade | AnswerError::Connection) => return Err(HandshakeError::UpgradeHeader),
            Err(AnswerError::Malformed(_) | AnswerError::TooLarge { .. } | AnswerError::Interim) => {
                return Err(HandshakeError::NotHttp);
            }
        };
        buf.drain(..len);
        return Ok(Upgraded { rest: buf, at });
    }
}

async fn read(stream: &TcpStream, buf: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read_buf(buf) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// RFC 6455 §4.1: an extension or a subprotocol that was not offered fails the connection. This client offers no
/// extension.
fn check_offers(request: &Request, head: &Head<'_>) -> Result<usize, HandshakeError> {
    if head.headers.get("Sec-WebSocket-Extensions").is_some() {
        return Err(HandshakeError::UpgradeHeader);
    }
    match (request.offers_subprotocol, head.headers.get("Sec-WebSocket-Protocol")) {
        (true, Some(SUBPROTOCOL)) | (false, None) => Ok(head.len),
        (true, _) => Err(HandshakeError::Subprotocol),
        (false, Some(_)) => Err(HandshakeError::UpgradeHeader),
    }
}

fn refusal(head: &Head<'_>) -> Refusal {
    let seconds = head.headers.get("Retry-After").and_then(|value| value.trim().parse().ok());
    Refusal {
        status: head.status,
        phrase: head.reason.to_owned(),
        reason: head.headers.get("X-Wscluster-Reason").map(str::to_owned),
        retry_after: seconds.map(Duration::from_secs),
        body: String::new(),
    }
}

/// Adds the body. A body with `retry_after_ms` is waited for: it is more precise than the whole seconds of
/// `Retry-After`.
async fn with_body(stream: &TcpStream, refusal: Refusal, mut buf: Vec<u8>, body_at: usize) -> Refusal {
    loop {
        let body = String::from_utf8_lossy(&buf[body_at..]).into_owned();
        if refusal.retry_after.is_none() {
            return Refusal { body, ..refusal };
        }
        if let Some(hint) = retry_after(&body) {
            return Refusal { retry_after: Some(hint), body, ..refusal };
        }
        let more = buf.len() < body_at + MAX_BODY;
        if !more || !matches!(timeout(BODY_TIME, read(stream, &mut buf)).await, Ok(Ok(1..))) {
            return Refusal { body, ..refusal };
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// The result of a handshake with a server that sends `answer`; `{accept}` in it becomes the right key.
    async fn answered(answer: &str, with_subprotocol: bool) -> Result<Upgraded, HandshakeError> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::of_authority(&listener.local_addr().unwrap().to_string()).unwrap();
        let request = Request::build(&endpoint, "", with_subprotocol);
        let answer = answer.replace("{accept}", &request.accept);
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 2_048];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let client = async {
            let stream = connect(&endpoint, Duration::from_secs(20)).await?;
            upgrade(&stream, &request, Duration::from_secs(20), &mut None).await
        };
        tokio::join!(server, client).1
    }

    const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                             Sec-WebSocket-Accept: {accept}\r\n";

    #[tokio::test]
    async fn keeps_what_follows_the_101() {
        let upgraded = answered(&format!("{SWITCHING}\r\nrest"), false).await.unwrap();
        assert_eq!(upgraded.rest, b"rest");
    }

    #[tokio::test]
    async fn accepts_only_the_subprotocol_that_it_offered() {
        let v1 = format!("{SWITCHING}Sec-WebSocket-Protocol: wscluster.v1\r\n\r\n");
        let other = format!("{SWITCHING}Sec-WebSocket-Protocol: chat\r\n\r\n");
        let none = format!("{SWITCHING}\r\n");
        assert!(answered(&v1, true).await.is_ok());
        for answer in [&other, &none] {
            let error = answered(answer, true).await.unwrap_err();
            assert!(matches!(error, HandshakeError::Subprotocol), "{error}");
            assert_eq!(error.retry(), Retry::NEVER);
        }
        for answer in [&v1, &other] {
            assert!(matches!(answered(answer, false).await, Err(HandshakeError::UpgradeHeader)));
        }
    }

    async fn refused(answer: &str) -> Refusal {
        match answered(answer, false).await {
            Err(HandshakeError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn prefers_the_milliseconds_of_the_body_to_the_seconds_of_the_header() {
        let head = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\nX-Wscluster-Reason: full\r\n\r\n";
        let refusal = refused(&format!("{head}{{\"error\":\"unavailable\",\"retry_after_ms\":2500}}")).await;
        assert_eq!(refusal.retry(), Retry::after(Duration::from_millis(2_500)));
        assert_eq!(refusal.to_string(), "503 Service Unavailable full");
        assert_eq!(refused(head).await.retry(), Retry::after(Duration::from_secs(3)));
    }

    #[tokio::test]
    async fn shows_the_body_of_a_refusal_without_a_reason() {
        let refusal = refused("HTTP/1.1 403 Forbidden\r\n\r\nnot from here\n").await;
        assert_eq!(refusal.to_string(), "403 Forbidden not from here");
        assert_eq!(refusal.retry(), Retry::NEVER);
    }

    #[test]
    fn writes_header_lines_and_refuses_line_breaks() {
        assert_eq!(header_lines([("Cookie", "a=b"), ("X-A", "")]).unwrap(), "Cookie: a=b\r\nX-A: \r\n");
        for (name, value) in [("", "x"), ("A B", "x"), ("A:", "x"), ("A", "x\r\nB: y"), ("A", "x\ny")] {
            assert!(header_lines([(name, value)]).is_err(), "{name:?} {value:?}");
        }
    }
}
