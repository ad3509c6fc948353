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
    #[error("failed to write: {0}")]
    Output(#[from] std::io::Error),
}

/// Whether a server ever took the subscription, and else the last thing that went wrong.
#[derive(Default)]
pub(super) struct Contact {
    subscribed: Cell<bool>,
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
    let mut attempt = 0;
    loop {
        let heard = left;
        let (reason, after) = match connection(args, contact, &mut progress, &mut left).await? {
            End::Done => return Ok(()),
            End::Again { reason, after } => (reason, after),
        };
        if args.no_reconnect {
            return Err(FollowError::Ended(reason));
        }
        attempt = if heard == left { attempt + 1 } else { 0 };
        contact.trouble.replace(reason.clone());
        let wait = after.unwrap_or_default() + backoff(attempt);
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
                progress.forget(channel);
            }
        }
        "gap" => {
            print::remark(&format!("{channel}: the shard missed messages; fetch fresh state"));
            progress.forget(channel);
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
mod tests {
    use super::*;
    use clap::Parser;
    use tokio::io::AsyncWriteExt as _;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::handshake;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[allow(clippy::result_large_err, reason = "the signature is the library's")]
    async fn accept(listener: &tokio::net::TcpListener) -> WebSocketStream<tokio::net::TcpStream> {
        let (stream, _) = listener.accept().await.unwrap();
        let speak = |_: &handshake::server::Request, mut response: handshake::server::Response| {
            response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("wscluster.v1"));
            Ok(response)
        };
        tokio_tungstenite::accept_hdr_async(stream, speak).await.unwrap()
    }

    fn message(pos: &str, prev: &str) -> WsMessage {
        WsMessage::text(json!({ "type": "t", "channel": "a", "pos": pos, "prev": prev, "data": 1 }).to_string())
    }

    #[tokio::test]
    async fn comes_back_with_what_it_saw_last() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        let args = Line::parse_from(["tail", "a", "--count", "2", "--url", &url]).args;
        let contact = Contact::default();
        let server = async {
            let mut asked = Vec::new();
            for round in 0..2 {
                let mut socket = accept(&listener).await;
                let WsMessage::Text(subscribe) = socket.next().await.unwrap().unwrap() else { panic!("no subscribe") };
                asked.push(serde_json::from_str::<Value>(&subscribe).unwrap()["data"]["since"].clone());
                let (pos, prev) = if round == 0 { ("1-0-5", "1-0-4") } else { ("1-0-6", "1-0-5") };
                socket.send(message(pos, prev)).await.unwrap();
                let reason = r#"{"retry_after_ms":1}"#.into();
                let _ = socket.close(Some(CloseFrame { code: CloseCode::Restart, reason })).await;
            }
            asked
        };
        let (followed, asked) = tokio::join!(follow(&args, &contact), server);
        followed.unwrap();
        assert_eq!(asked, [json!({}), json!({ "a": ["1-0-5"] })]);
    }

    #[tokio::test]
    async fn comes_back_from_a_link_that_died_without_a_word() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        let args = Line::parse_from(["tail", "a", "--count", "2", "--url", &url]).args;
        let contact = Contact::default();
        let server = async {
            let mut dead = accept(&listener).await;
            let hello = json!({ "type": "hello", "shard": "s", "ping_ms": 100 }).to_string();
            dead.send(WsMessage::text(hello)).await.unwrap();
            dead.send(message("1-0-5", "1-0-4")).await.unwrap();
            // From here on it neither says anything nor ends.
            let mut socket = accept(&listener).await;
            let WsMessage::Text(subscribe) = socket.next().await.unwrap().unwrap() else { panic!("no subscribe") };
            socket.send(message("1-0-6", "1-0-5")).await.unwrap();
            (dead, socket, serde_json::from_str::<Value>(&subscribe).unwrap()["data"]["since"].clone())
        };
        let both = async { tokio::join!(follow(&args, &contact), server) };
        let (followed, (_dead, _socket, since)) = timeout(Duration::from_secs(30), both).await.expect("it comes back");
        followed.unwrap();
        assert_eq!(since, json!({ "a": ["1-0-5"] }));
    }

    #[test]
    fn takes_a_message_with_a_number_that_no_type_holds() {
        let args = Line::parse_from(["tail", "a"]).args;
        let (mut progress, mut ping) = (Progress::default(), PING);
        let text = r#"{"type":"t","channel":"a","pos":"1-0-5","prev":"1-0-4","data":1e999}"#;
        assert!(hear(&args, &Contact::default(), &mut progress, &mut ping, text).unwrap());
        assert_eq!(Value::Object(progress.since(&["a".into()], false)), json!({ "a": ["1-0-5"] }));
    }

    #[tokio::test(start_paused = true)]
    async fn does_not_wait_for_ever_for_an_answer_to_the_upgrade() {
        // The kernel accepts, and nobody reads.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        let args = Line::parse_from(["tail", "a", "--no-reconnect", "--url", &url]).args;
        let ended = follow(&args, &Contact::default()).await.unwrap_err().to_string();
        assert_eq!(ended, "connection ended: the server did not answer within 10s");
    }

    #[tokio::test]
    async fn does_not_come_back_where_it_must_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        let args = Line::parse_from(["tail", "a", "--url", &url]).args;
        let contact = Contact::default();
        let server = async {
            let mut socket = accept(&listener).await;
            let frame = CloseFrame { code: CloseCode::from(4001), reason: "bad token".into() };
            socket.close(Some(frame)).await.unwrap();
        };
        let (followed, ()) = tokio::join!(follow(&args, &contact), server);
        assert_eq!(followed.unwrap_err().to_string(), "the server closed for good: the server closed: 4001 bad token");
    }

    #[tokio::test]
    async fn ends_when_the_subscription_is_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        let args = Line::parse_from(["tail", "a", "--url", &url]).args;
        let contact = Contact::default();
        let server = async {
            let mut socket = accept(&listener).await;
            let error = json!({ "type": "error", "code": "bad_request", "message": "no such channel" });
            socket.send(WsMessage::text(error.to_string())).await.unwrap();
        };
        let (followed, ()) = tokio::join!(follow(&args, &contact), server);
        assert_eq!(followed.unwrap_err().to_string(), "the server refused: no such channel");
        assert!(contact.ended().is_err(), "nothing was ever subscribed");
    }

    #[tokio::test]
    async fn says_what_a_wrong_port_or_path_means() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        let args = Line::parse_from(["tail", "a", "--url", &url]).args;
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            stream
        };
        let contact = Contact::default();
        let (followed, _stream) = tokio::join!(follow(&args, &contact), server);
        let error = followed.unwrap_err().to_string();
        assert!(error.starts_with("the server refused: 404 Not Found; is --url the port"), "{error}");
        let never = contact.ended().unwrap_err().to_string();
        assert_eq!(never, "failed to subscribe in the time that was given: the server did not answer");
    }

    #[test]
    fn names_what_is_wrong_with_the_url() {
        let refusal = |url: &str| request(&Line::parse_from(["tail", "a", "--url", url]).args).unwrap_err().to_string();
        assert!(refusal("wss://x/ws").contains("plain ws:// only"));
        assert!(refusal("http://x/ws").contains("plain ws:// only"));
        assert!(refusal("not a url").contains("failed to read --url not a url"));
    }
}
