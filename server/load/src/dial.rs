//! One handshake, phase by phase: TCP, first byte of the answer, a 101 that keeps every rule. Whatever goes wrong has
//! its own name ([`Failure`]).

use std::io;
use std::time::{Duration, Instant};

use base64::Engine as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use wscluster_ws::upgrade::{Answer, AnswerError, Head, HeadLimits, accept_key, parse_response};

use super::backoff::{Advice, hint_of};
use super::failure::{Failure, Phase};
use super::source;
use super::worker_plan::Order;

/// Receive buffer of slow clients, so that what they do not read piles up at the server.
const SLOW_RECEIVE_BUFFER: usize = 4_096;

/// Body bytes of a refusal that are read for its hint.
const MAX_BODY: usize = 4_096;

/// An upgraded connection.
#[derive(Debug)]
pub(super) struct Opened {
    /// The socket.
    pub(super) stream: TcpStream,
    /// Bytes that came behind the 101.
    pub(super) rest: Vec<u8>,
    /// When the 101 was complete.
    pub(super) at: Instant,
}

/// How far a handshake came, also one that failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// TCP established.
    pub(super) connected: Option<Instant>,
    /// First byte of the answer.
    pub(super) first_byte: Option<Instant>,
}

/// Connects client `k` and upgrades it.
pub(super) async fn dial(order: &Order, k: u32, times: &mut Times) -> Result<Opened, Failure> {
    let target = &order.targets[k as usize % order.targets.len()];
    // Neighbours differ in target; clients of one target take the sources in turn.
    let turn = k as usize / order.targets.len();
    let source = order.sources.get(turn % order.sources.len().max(1)).copied();
    let in_connect = |error: &io::Error| Failure::of_io(error, Phase::Connect);
    let buffer = order.is_slow(k).then_some(SLOW_RECEIVE_BUFFER);
    let socket = source::dial(target.addr, source, buffer).map_err(|e| in_connect(&e))?;
    let stream = TcpStream::from_std(socket.into()).map_err(|e| in_connect(&e))?;
    timeout(order.timeout, stream.writable())
        .await
        .map_err(|_| Failure::Timeout(Phase::Connect))?
        .map_err(|e| in_connect(&e))?;
    if let Some(error) = stream.take_error().map_err(|e| in_connect(&e))? {
        return Err(in_connect(&error));
    }
    times.connected = Some(Instant::now());

    let key = base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 16]>());
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Version: 13\r\n{}\r\n",
        target.path, target.host, order.headers
    );
    let mut phase = Phase::FirstByte;
    let accept = accept_key(&key);
    let exchange = upgrade(&stream, request.as_bytes(), &accept, times, &mut phase);
    let answer = timeout(order.timeout, exchange).await;
    let (rest, at) = answer.unwrap_or(Err(Failure::Timeout(phase)))?;
    Ok(Opened { stream, rest, at })
}

async fn upgrade(
    stream: &TcpStream,
    mut request: &[u8],
    accept: &str,
    times: &mut Times,
    phase: &mut Phase,
) -> Result<(Vec<u8>, Instant), Failure> {
    while !request.is_empty() {
        match stream.try_write(request) {
            Ok(n) => request = &request[n..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                stream.writable().await.map_err(|e| Failure::of_io(&e, *phase))?;
            }
            Err(e) => return Err(Failure::of_io(&e, *phase)),
        }
    }
    let limits = HeadLimits::default();
    let mut buf = Vec::with_capacity(1_024);
    loop {
        let n = read(stream, &mut buf).await.map_err(|e| Failure::of_io(&e, *phase))?;
        if n == 0 {
            return Err(Failure::Eof(*phase));
        }
        let now = Instant::now();
        times.first_byte.get_or_insert(now);
        *phase = Phase::Head;
        let len = match parse_response(&buf, limits, accept) {
            Ok(None) => continue,
            Ok(Some(Answer::Upgraded(head))) => check_offers(&head)?,
            Ok(Some(Answer::Refused(head))) => {
                let refused = refusal(&head);
                let body_at = head.len;
                return Err(with_body_hint(stream, refused, buf, body_at).await);
            }
            Err(AnswerError::Accept) => return Err(Failure::BadAcceptKey),
            Err(AnswerError::Upgrade | AnswerError::Connection) => return Err(Failure::BadUpgradeHeader),
            Err(AnswerError::Malformed(_) | AnswerError::TooLarge { .. } | AnswerError::Interim) => {
                return Err(Failure::NotHttp);
            }
        };
        buf.drain(..len);
        return Ok((buf, now));
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

/// This client offers no extension: one in the answer is an error (RFC 6455 §4.1).
fn check_offers(head: &Head<'_>) -> Result<usize, Failure> {
    match head.headers.get("Sec-WebSocket-Extensions") {
        Some(_) => Err(Failure::BadUpgradeHeader),
        None => Ok(head.len),
    }
}

fn refusal(head: &Head<'_>) -> Failure {
    let after = head.headers.get("Retry-After").and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
    let advice = match (head.status, after) {
        (_, Some(after)) => Advice::After(after),
        // What this client asks for is wrong, and will be the next time.
        (400..=407 | 410..=428 | 431, None) => Advice::Never,
        _ => Advice::BackOff,
    };
    let reason = head.headers.get("X-Wscluster-Reason").map(str::to_owned);
    Failure::Http { status: head.status, reason, advice }
}

/// The body of a 503 may name the delay in milliseconds where the header has whole seconds.
async fn with_body_hint(stream: &TcpStream, failure: Failure, mut buf: Vec<u8>, body_at: usize) -> Failure {
    let Failure::Http { status, reason, advice: Advice::After(after) } = failure else { return failure };
    loop {
        if let Some(hint) = buf.get(body_at..).and_then(|body| std::str::from_utf8(body).ok()).and_then(hint_of) {
            return Failure::Http { status, reason, advice: Advice::After(hint) };
        }
        let more = buf.len() < body_at + MAX_BODY;
        let read = timeout(Duration::from_secs(1), read(stream, &mut buf)).await;
        if !more || !matches!(read, Ok(Ok(1..))) {
            return Failure::Http { status, reason, advice: Advice::After(after) };
        }
    }
}
