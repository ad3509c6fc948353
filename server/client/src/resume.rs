//! The connection: subscribes, reads, and comes back where it stopped.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error as WsError, Message as WsMessage};
use wscluster_protocol::Position;

use super::progress::{Message, Progress, Step};
use super::{Args, backoff, print};

/// How long connecting and the upgrade may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How often a server pings that does not say it: the default of `spec.delivery.pingInterval`.
const PING: Duration = Duration::from_secs(27);

/// Why following ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error("failed to read --url {url}: {reason}; write it like ws://localhost:8080/ws")]
    Url { url: String, reason: String },
    #[error("failed to use header {0}: it is no HTTP header")]
    Header(String),
    #[error("the server refused: {0}")]
    Refused(String),
    #[error("the server closed for good: {0}")]
    Closed(String),
    #[error("connection ended: {0}")]
    Ended(String),
    #[error("failed to subscribe in the time that was given: {0}")]
    Never(String),
    #[error("a fault of this program ended it; what is above says more")]
    Fault,
    #[error("failed to write: {0}")]
    Output(#[from] std::io::Error),
}

/// Whether a server ever took the subscription, and else the last thing that went wrong.
#[derive(Default)]
pub(super) struct Contact {
    subscribed: Cell<bool>,
    /// Connections in a row that brought no message.
    failures: Cell<u32>,
    trouble: RefCell<String>,
}

impl Contact {
    /// What the time given by `--for` ended: a reading, or attempts that all failed.
    pub(super) fn ended(&self) -> Result<(), FollowError> {
        match (self.subscribed.get(), self.trouble.borrow().as_str()) {
            (true, _) => Ok(()),
            (false, "") => Err(FollowError::Never("the server did not answer".into())),
            (false, trouble) => Err(FollowError::Never(trouble.into())),
        }
    }
}

/// How one connection ended.
enum End {
    /// Enough messages.
    Done,
    /// Come back, not before this time has passed.
    Again { reason: String, after: Option<Duration> },
}

/// Follows until there is nothing more to do.
pub(super) async fn follow(args: &Args, contact: &Contact) -> Result<(), FollowError> {
    let mut progress = Progress::new(args.since.iter().cloned());
    let mut left = args.count;
    loop {
        let (reason, after) = match connection(args, contact, &mut progress, &mut left).await? {
            End::Done => return Ok(()),
            End::Again { reason, after } => (reason, after),
        };
        if args.no_reconnect {
            return Err(FollowError::Ended(reason));
        }
        let failures = contact.failures.get();
        contact.failures.set(failures.saturating_add(1));
        contact.trouble.replace(reason.clone());
        let wait = after.unwrap_or_default().saturating_add(backoff(failures));
        print::remark(&format!("{reason}; again in {} ms", wait.as_millis()));
        tokio::time::sleep(wait).await;
    }
}

fn request(args: &Args) -> Result<Request<()>, FollowError> {
    let url = |reason: String| FollowError::Url { url: args.url.clone(), reason };
    if !args.url.starts_with("ws://") {
        return Err(url("this tool speaks plain ws:// only".into()));
    }
    let mut request = args.url.as_str().into_client_request().map_err(|error| url(error.to_string()))?;
    let headers = request.headers_mut();
    headers.insert("Sec-WebSocket-Protocol", HeaderValue::from_static("wscluster.v1"));
    for (name, value) in &args.header {
        let bad = || FollowError::Header(name.clone());
        headers.insert(
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?,
            HeaderValue::from_str(value).map_err(|_| bad())?,
        );
    }
    Ok(request)
}

async fn connection(
    args: &Args,
    contact: &Contact,
    progress: &mut Progress,
    left: &mut Option<u64>,
) -> Result<End, FollowError> {
    let again = |reason: String| Ok(End::Again { reason, after: None });
    let Ok(connected) = timeout(CONNECT, connect_async(request(args)?)).await else {
        return again(format!("the server did not answer within {CONNECT:?}"));
    };
    let mut socket = match connected {
        Ok((socket, _)) => socket,
        Err(WsError::Http(response)) => return refused(&response),
        Err(WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(_))) => {
            return Err(FollowError::Refused("it does not speak wscluster.v1".into()));
        }
        Err(error) => return again(error.to_string()),
    };
    let since = progress.since(&args.channels, args.latest);
    let subscribe = json!({ "type": "subscribe", "data": { "channels": args.channels, "since": since } });
    if let Err(error) = socket.send(WsMessage::text(subscribe.to_string())).await {
        return again(error.to_string());
    }
    if contact.subscribed.get() {
        for channel in progress.unknown(&args.channels) {
            print::remark(&format!("{channel}: no position to come back with; messages may be missing"));
        }
    }
    let mut ping = PING;
    loop {
        // A link may die without a word, and TCP does not tell who only listens.
        let Ok(came) = timeout(2 * ping, socket.next()).await else {
            return again(format!("nothing came for {:?}, two pings of the server included", 2 * ping));
        };
        let text = match came {
            Some(Ok(WsMessage::Text(text))) => text,
            Some(Ok(WsMessage::Close(frame))) => return closed(frame),
            Some(Ok(_)) => continue,
            Some(Err(error)) => return again(error.to_string()),
            None => return again("the server ended the connection".into()),
        };
        if hear(args, contact, progress, &mut ping, &text)?
            && left.as_mut().is_some_and(|left| {
                *left = left.saturating_sub(1);
                *left == 0
            })
        {
            let _ = socket.close(None).await;
            return Ok(End::Done);
        }
    }
}

/// Takes in what the server said; true for a message of a channel.
fn hear(
    args: &Args,
    contact: &Contact,
    progress: &mut Progress,
    ping: &mut Duration,
    text: &str,
) -> Result<bool, FollowError> {
    let Ok(said) = serde_json::from_str::<Said>(text) else { return Ok(false) };
    let channel = &said.channel;
    match said.kind.as_str() {
        "hello" => *ping = said.ping_ms.filter(|ms| *ms > 0).map_or(PING, Duration::from_millis),
        "pong" => {}
        "subscription_ack" => {
            contact.subscribed.set(true);
            for (channel, _) in said.recovered.iter().filter(|(_, recovered)| !**recovered) {
                let reason = said.reason.get(channel).map_or("no reason given", String::as_str);
                print::remark(&format!("{channel}: messages may be missing ({reason})"));
                progress.go_on(channel, &[]);
            }
            for (channel, pos) in said.positions.as_object().into_iter().flatten() {
                progress.go_on(channel, &Position::from_json(pos).unwrap_or_default());
            }
        }
        "gap" => {
            print::remark(&format!("{channel}: the shard missed messages; fetch fresh state"));
            progress.go_on(channel, &Position::from_json(&said.positions).unwrap_or_default());
        }
        // Our only request is the subscription: asked again, it would be refused again.
        "error" => return Err(FollowError::Refused(said.message.unwrap_or_else(|| text.to_owned()))),
        _ if said.pos.is_some() => {
            let message = Message { channel: said.channel, pos: said.pos, prev: said.prev };
            match progress.step(&message) {
                Step::Next => {}
                Step::Hole => print::remark(&format!("{}: messages are missing here", message.channel)),
                Step::Repeat => print::remark(&format!("{}: the next message came before", message.channel)),
            }
            print::message(text, args.output)?;
            // Whatever went wrong before is over.
            contact.failures.set(0);
            return Ok(true);
        }
        _ => print::message(text, args.output)?,
    }
    Ok(false)
}

/// What the server says, without `data`: a number there may be one that no type holds.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    #[serde(rename = "type")]
    kind: String,
    ping_ms: Option<u64>,
    recovered: BTreeMap<String, bool>,
    reason: BTreeMap<String, String>,
    message: Option<String>,
    channel: String,
    pos: Option<String>,
    /// Where channels go on: in an answer, or behind a gap.
    positions: Value,
    prev: Option<String>,
}

fn refused(response: &Response<Option<Vec<u8>>>) -> Result<End, FollowError> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let status = response.status();
    let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let said = header("X-Wscluster-Reason").unwrap_or_else(|| body.trim());
    let mut reason =
        [status.as_str(), status.canonical_reason().unwrap_or_default(), said].join(" ").trim_end().to_owned();
    if status.as_u16() == 404 {
        reason += "; is --url the port and the path of clients, as ws://localhost:8080/ws, and no admin port?";
    }
    // 503 passes; every other refusal is about what was asked.
    if status.as_u16() != 503 {
        return Err(FollowError::Refused(reason));
    }
    let after = header("Retry-After").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    Ok(End::Again { reason, after })
}

fn closed(frame: Option<CloseFrame>) -> Result<End, FollowError> {
    let Some(CloseFrame { code, reason }) = frame else {
        return Ok(End::Again { reason: "the server closed".into(), after: None });
    };
    let (code, reason) = (u16::from(code), reason.to_string());
    let hint = serde_json::from_str::<Value>(&reason).ok();
    let hint = hint.as_ref().and_then(|reason| reason.get("retry_after_ms")).and_then(Value::as_u64);
    let text = format!("the server closed: {code} {reason}");
    match code {
        4_000..=4_099 => Err(FollowError::Closed(text)),
        4_100..=4_199 => Ok(End::Again { reason: text, after: Some(Duration::from_secs(1)) }),
        _ => Ok(End::Again { reason: text, after: hint.map(Duration::from_millis) }),
    }
}

#[cfg(test)]
mod tests;
