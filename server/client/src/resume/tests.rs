//! The client against servers that follow a script.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as WsMessage;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use wscluster_protocol::close::{Advice, CloseCode};

use super::*;

#[allow(clippy::result_large_err, reason = "the signature is the library's")]
async fn accept(listener: &TcpListener) -> WebSocketStream<TcpStream> {
    let (stream, _) = listener.accept().await.unwrap();
    let choose = |_: &Request, mut response: Response| {
        response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
        Ok(response)
    };
    tokio_tungstenite::accept_hdr_async(stream, choose).await.unwrap()
}

/// A listener, and a client for channel `a` there.
async fn listening(backoff: ReconnectPolicy) -> (TcpListener, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::of_authority(&listener.local_addr().unwrap().to_string()).unwrap();
    let client = Client::new(Config {
        endpoint,
        headers: String::new(),
        channels: vec!["a".into()],
        since: vec![],
        latest: false,
        backoff,
        limit: Duration::from_secs(10),
    });
    (listener, client)
}

/// Events until `count` records arrived.
async fn until_records(client: &mut Client, count: usize) -> Result<Vec<Event>, ClientError> {
    let mut events = Vec::new();
    let records =
        |events: &[Event]| events.iter().filter(|e| matches!(e, Event::Message { record: Some(_), .. })).count();
    while records(&events) < count {
        events.push(client.next().await?);
    }
    Ok(events)
}

/// The error that ends the client.
async fn end(client: &mut Client) -> ClientError {
    loop {
        if let Err(error) = client.next().await {
            return error;
        }
    }
}

/// The `since` of the subscription.
async fn since(socket: &mut WebSocketStream<TcpStream>) -> Value {
    let WsMessage::Text(subscribe) = socket.next().await.unwrap().unwrap() else { panic!("no subscribe") };
    serde_json::from_str::<Value>(&subscribe).unwrap()["data"]["since"].clone()
}

fn message(pos: &str, prev: &str) -> WsMessage {
    WsMessage::text(json!({ "type": "t", "channel": "a", "pos": pos, "prev": prev, "data": 1 }).to_string())
}

async fn close(mut socket: WebSocketStream<TcpStream>, code: u16, reason: &str) {
    let _ = socket.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await;
    while socket.next().await.is_some_and(|came| came.is_ok()) {}
}

const SOON: &str = r#"{"retry_after_ms":1}"#;

#[tokio::test]
async fn resumes_after_the_last_message() {
    let (listener, mut client) = listening(ReconnectPolicy::default()).await;
    let server = async {
        let mut asked = Vec::new();
        for round in 0..2 {
            let mut socket = accept(&listener).await;
            asked.push(since(&mut socket).await);
            let (pos, prev) = if round == 0 { ("1-0-5", "1-0-4") } else { ("1-0-6", "1-0-5") };
            socket.send(message(pos, prev)).await.unwrap();
            if round == 0 {
                close(socket, 1012, SOON).await;
            }
        }
        asked
    };
    let (events, asked) = tokio::join!(until_records(&mut client, 2), server);
    events.unwrap();
    assert_eq!(asked, [json!({}), json!({ "a": ["1-0-5"] })]);
}

#[tokio::test]
async fn resumes_at_the_positions_of_an_answer_or_a_gap_when_no_message_arrived() {
    let (listener, mut client) = listening(ReconnectPolicy::default()).await;
    let server = async {
        let mut asked = Vec::new();
        let sent = [
            json!({ "type": "subscription_ack", "positions": { "a": "1-0-5" } }),
            json!({ "type": "subscription_ack", "recovered": { "a": false }, "reason": { "a": "epoch" }, "positions": { "a": "2-0-7" } }),
            json!({ "type": "gap", "channel": "a", "positions": ["2-0-9", "2-1-3"] }),
            json!({ "type": "gap", "channel": "a" }),
            json!({ "type": "t", "channel": "a", "pos": "3-0-0", "data": 1 }),
        ];
        for sent in sent {
            let mut socket = accept(&listener).await;
            asked.push(since(&mut socket).await);
            let is_last = sent["type"] == "t";
            socket.send(WsMessage::text(sent.to_string())).await.unwrap();
            if !is_last {
                close(socket, 1012, SOON).await;
            }
        }
        asked
    };
    let (events, asked) = tokio::join!(until_records(&mut client, 1), server);
    let events = events.unwrap();
    let both = json!({ "a": ["2-0-9", "2-1-3"] });
    assert_eq!(asked, [json!({}), json!({ "a": ["1-0-5"] }), json!({ "a": ["2-0-7"] }), both.clone(), both]);
    let lost = events.iter().find_map(|event| match event {
        Event::Unrecovered { channel, reason } => Some((channel.as_str(), reason.as_deref())),
        _ => None,
    });
    assert_eq!(lost, Some(("a", Some("epoch"))));
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Gap { .. })).count(), 2);
}

#[tokio::test]
async fn reports_a_reconnect_without_a_position() {
    let (listener, mut client) = listening(ReconnectPolicy::default()).await;
    let server = async {
        let mut socket = accept(&listener).await;
        let ack = json!({ "type": "subscription_ack" });
        socket.send(WsMessage::text(ack.to_string())).await.unwrap();
        close(socket, 1012, SOON).await;
        let mut socket = accept(&listener).await;
        socket.send(message("1-0-5", "1-0-4")).await.unwrap();
        socket
    };
    let (events, _socket) = tokio::join!(until_records(&mut client, 1), server);
    let events = events.unwrap();
    assert!(events.iter().any(|event| matches!(event, Event::NoPosition { channel } if channel == "a")), "{events:?}");
    assert!(client.has_subscribed());
}

#[tokio::test]
async fn resets_the_back_off_after_a_message() {
    let (listener, mut client) =
        listening(ReconnectPolicy { base: Duration::from_millis(1), ..ReconnectPolicy::default() }).await;
    let server = async {
        for (round, sends) in [false, false, true, true].into_iter().enumerate() {
            let mut socket = accept(&listener).await;
            if sends {
                socket.send(message(&format!("1-0-{round}"), "1-0-0")).await.unwrap();
            }
            close(socket, 1012, "").await;
        }
        close(accept(&listener).await, 4001, "").await;
    };
    let follow = async {
        let mut counted = Vec::new();
        loop {
            match client.next().await {
                Ok(Event::Disconnected { failures, .. }) => counted.push(failures),
                Ok(_) => {}
                Err(error) => return (counted, error),
            }
        }
    };
    let ((failures, error), ()) = tokio::join!(follow, server);
    assert_eq!(failures, [1, 2, 1, 1]);
    assert!(matches!(error, ClientError::Forbidden(_)), "{error}");
}

#[tokio::test]
async fn obeys_every_close_code_and_its_hint() {
    let backoff = ReconnectPolicy {
        base: Duration::from_millis(2),
        max: Duration::from_millis(20),
        ..ReconnectPolicy::default()
    };
    let codes = CloseCode::ALL.map(CloseCode::number).into_iter().chain([4000, 4150, 4200]);
    for code in codes {
        let (listener, mut client) = listening(backoff).await;
        let server = async { close(accept(&listener).await, code, r#"{"retry_after_ms":30000}"#).await };
        let (event, ()) = tokio::join!(client.next(), server);
        match (Advice::of_close(Some(code)), event) {
            (Advice::Never, Err(ClientError::Forbidden(_))) => {}
            (advice, Ok(Event::Disconnected { retry_in, .. })) => {
                let obeyed = match advice {
                    Advice::AtOnce => retry_in.is_zero(),
                    Advice::AfterHint => retry_in == Duration::from_secs(30),
                    Advice::Jitter => retry_in <= backoff.base,
                    Advice::BackOff => retry_in <= backoff.max,
                    Advice::Never => false,
                };
                assert!(obeyed, "{code}: {advice:?}, but it reconnects in {retry_in:?}");
            }
            (advice, event) => panic!("{code}: {advice:?}, but {event:?}"),
        }
    }
}

#[tokio::test]
async fn obeys_the_hint_of_a_refusal() {
    let (listener, mut client) = listening(ReconnectPolicy::default()).await;
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\nX-Wscluster-Reason: full\r\n\r\n\
                       {\"error\":\"unavailable\",\"reason\":\"full\",\"retry_after_ms\":2500}";
        stream.write_all(answer).await.unwrap();
        stream
    };
    let (event, _stream) = tokio::join!(client.next(), server);
    let Ok(Event::Disconnected { cause, retry_in, .. }) = event else { panic!("{event:?}") };
    assert_eq!(cause.to_string(), "503 Service Unavailable full");
    assert_eq!(retry_in, Duration::from_millis(2_500));
}

#[tokio::test]
async fn reconnects_when_a_link_fails_silently() {
    let (listener, mut client) = listening(ReconnectPolicy::default()).await;
    let server = async {
        let mut dead = accept(&listener).await;
        let hello = json!({ "type": "hello", "shard": "s", "ping_ms": 100 }).to_string();
        dead.send(WsMessage::text(hello)).await.unwrap();
        dead.send(message("1-0-5", "1-0-4")).await.unwrap();
        // From here on the server neither sends anything nor ends the connection.
        let mut socket = accept(&listener).await;
        let since = since(&mut socket).await;
        socket.send(message("1-0-6", "1-0-5")).await.unwrap();
        (dead, socket, since)
    };
    let both = async { tokio::join!(until_records(&mut client, 2), server) };
    let (events, (_dead, _socket, since)) = timeout(Duration::from_secs(30), both).await.expect("it reconnects");
    events.unwrap();
    assert_eq!(since, json!({ "a": ["1-0-5"] }));
}

#[tokio::test]
async fn takes_a_message_with_a_number_that_no_type_holds() {
    let (_listener, mut client) = listening(ReconnectPolicy::default()).await;
    let text = r#"{"type":"t","channel":"a","pos":"1-0-5","prev":"1-0-4","data":1e999}"#;
    client.receive(text.to_owned()).unwrap();
    assert!(matches!(client.events.pop_front(), Some(Event::Message { record: Some((_, Link::Next)), .. })));
    assert_eq!(Value::Object(client.positions.since(&["a".into()], false)), json!({ "a": ["1-0-5"] }));
}

#[tokio::test(start_paused = true)]
async fn limits_the_wait_for_the_answer_to_the_upgrade() {
    // The kernel accepts the connection; no program reads from it.
    let (_listener, mut client) = listening(ReconnectPolicy { retries: 0, ..ReconnectPolicy::default() }).await;
    let ended = end(&mut client).await.to_string();
    assert_eq!(ended, "connection ended: the server did not answer within 10s");
}

#[tokio::test]
async fn does_not_reconnect_after_a_code_that_forbids_it() {
    let (listener, mut client) = listening(ReconnectPolicy::default()).await;
    let server = async { close(accept(&listener).await, 4001, "bad token").await };
    let (error, ()) = tokio::join!(end(&mut client), server);
    let error = error.to_string();
    assert_eq!(error, "the server closed the connection: 4001 bad token; this code forbids to reconnect");
}

#[tokio::test]
async fn ends_when_the_subscription_is_rejected() {
    let (listener, mut client) = listening(ReconnectPolicy::default()).await;
    let server = async {
        let mut socket = accept(&listener).await;
        let error = json!({ "type": "error", "code": "bad_request", "message": "no such channel" });
        socket.send(WsMessage::text(error.to_string())).await.unwrap();
        socket
    };
    let (error, _socket) = tokio::join!(end(&mut client), server);
    assert_eq!(error.to_string(), "the server rejected the subscription: no such channel");
    assert!(!client.has_subscribed());
}

#[tokio::test]
async fn does_not_retry_a_404() {
    let (listener, mut client) = listening(ReconnectPolicy::default()).await;
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        stream
    };
    let (error, _stream) = tokio::join!(end(&mut client), server);
    assert!(matches!(&error, ClientError::Refused(refusal) if refusal.status == 404), "{error}");
    assert_eq!(error.to_string(), "the server refused: 404 Not Found");
}
