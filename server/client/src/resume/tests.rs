//! Against servers that say one thing and end.

use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use wscluster_runtime::args::parsed;

use super::*;

#[allow(clippy::result_large_err, reason = "the signature is the library's")]
async fn accept(listener: &tokio::net::TcpListener) -> WebSocketStream<tokio::net::TcpStream> {
    let (stream, _) = listener.accept().await.unwrap();
    let speak = |_: &handshake::server::Request, mut response: handshake::server::Response| {
        response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("wscluster.v1"));
        Ok(response)
    };
    tokio_tungstenite::accept_hdr_async(stream, speak).await.unwrap()
}

/// Where it is to connect, and the arguments for that.
async fn listening(more: &[&str]) -> (tokio::net::TcpListener, Args) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let args = parsed([&["tail", "a", "--url", &url], more].concat()).unwrap();
    (listener, args)
}

/// The positions that it comes with.
async fn since(socket: &mut WebSocketStream<tokio::net::TcpStream>) -> Value {
    let WsMessage::Text(subscribe) = socket.next().await.unwrap().unwrap() else { panic!("no subscribe") };
    serde_json::from_str::<Value>(&subscribe).unwrap()["data"]["since"].clone()
}

fn message(pos: &str, prev: &str) -> WsMessage {
    WsMessage::text(json!({ "type": "t", "channel": "a", "pos": pos, "prev": prev, "data": 1 }).to_string())
}

#[tokio::test]
async fn comes_back_with_what_it_saw_last() {
    let (listener, args) = listening(&["--count", "2"]).await;
    let contact = Contact::default();
    let server = async {
        let mut asked = Vec::new();
        for round in 0..2 {
            let mut socket = accept(&listener).await;
            asked.push(since(&mut socket).await);
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
async fn comes_back_with_what_it_was_told_where_nothing_came() {
    let (listener, args) = listening(&["--count", "1"]).await;
    let contact = Contact::default();
    let server = async {
        let mut asked = Vec::new();
        let said = [
            json!({ "type": "subscription_ack", "positions": { "a": "1-0-5" } }),
            json!({ "type": "subscription_ack", "recovered": { "a": false }, "reason": { "a": "epoch" }, "positions": { "a": "2-0-7" } }),
            json!({ "type": "gap", "channel": "a", "positions": ["2-0-9", "2-1-3"] }),
            json!({ "type": "gap", "channel": "a" }),
            json!({ "type": "t", "channel": "a", "pos": "3-0-0", "data": 1 }),
        ];
        for said in said {
            let mut socket = accept(&listener).await;
            asked.push(since(&mut socket).await);
            socket.send(WsMessage::text(said.to_string())).await.unwrap();
            let reason = r#"{"retry_after_ms":1}"#.into();
            let _ = socket.close(Some(CloseFrame { code: CloseCode::Restart, reason })).await;
        }
        asked
    };
    let (followed, asked) = tokio::join!(follow(&args, &contact), server);
    followed.unwrap();
    let both = json!({ "a": ["2-0-9", "2-1-3"] });
    assert_eq!(asked, [json!({}), json!({ "a": ["1-0-5"] }), json!({ "a": ["2-0-7"] }), both.clone(), both]);
}

#[tokio::test]
async fn begins_to_wait_anew_after_a_message() {
    let (listener, args) = listening(&[]).await;
    let contact = Contact::default();
    let server = async {
        let mut failures = Vec::new();
        for (round, heard) in [false, false, true, true].into_iter().enumerate() {
            let mut socket = accept(&listener).await;
            failures.push(contact.failures.get());
            if heard {
                socket.send(message(&format!("1-0-{round}"), "1-0-0")).await.unwrap();
            }
            let _ = socket.close(Some(CloseFrame { code: CloseCode::Restart, reason: "".into() })).await;
            while socket.next().await.is_some_and(|came| came.is_ok()) {}
        }
        let mut socket = accept(&listener).await;
        failures.push(contact.failures.get());
        let _ = socket.close(Some(CloseFrame { code: CloseCode::from(4001), reason: "".into() })).await;
        failures
    };
    let (followed, failures) = tokio::join!(follow(&args, &contact), server);
    followed.unwrap_err();
    assert_eq!(failures, [0, 1, 2, 1, 1]);
}

#[tokio::test]
async fn comes_back_from_a_link_that_died_without_a_word() {
    let (listener, args) = listening(&["--count", "2"]).await;
    let contact = Contact::default();
    let server = async {
        let mut dead = accept(&listener).await;
        let hello = json!({ "type": "hello", "shard": "s", "ping_ms": 100 }).to_string();
        dead.send(WsMessage::text(hello)).await.unwrap();
        dead.send(message("1-0-5", "1-0-4")).await.unwrap();
        // From here on it neither says anything nor ends.
        let mut socket = accept(&listener).await;
        let since = since(&mut socket).await;
        socket.send(message("1-0-6", "1-0-5")).await.unwrap();
        (dead, socket, since)
    };
    let both = async { tokio::join!(follow(&args, &contact), server) };
    let (followed, (_dead, _socket, since)) = timeout(Duration::from_secs(30), both).await.expect("it comes back");
    followed.unwrap();
    assert_eq!(since, json!({ "a": ["1-0-5"] }));
}

#[test]
fn takes_a_message_with_a_number_that_no_type_holds() {
    let args = parsed::<Args>(["tail", "a"]).unwrap();
    let (mut progress, mut ping) = (Progress::default(), PING);
    let text = r#"{"type":"t","channel":"a","pos":"1-0-5","prev":"1-0-4","data":1e999}"#;
    assert!(hear(&args, &Contact::default(), &mut progress, &mut ping, text).unwrap());
    assert_eq!(Value::Object(progress.since(&["a".into()], false)), json!({ "a": ["1-0-5"] }));
}

#[tokio::test(start_paused = true)]
async fn does_not_wait_for_ever_for_an_answer_to_the_upgrade() {
    // The kernel accepts, and nobody reads.
    let (_listener, args) = listening(&["--no-reconnect"]).await;
    let ended = follow(&args, &Contact::default()).await.unwrap_err().to_string();
    assert_eq!(ended, "connection ended: the server did not answer within 10s");
}

#[tokio::test]
async fn does_not_come_back_where_it_must_not() {
    let (listener, args) = listening(&[]).await;
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
    let (listener, args) = listening(&[]).await;
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
    let (listener, args) = listening(&[]).await;
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
    let refusal = |url: &str| request(&parsed::<Args>(["tail", "a", "--url", url]).unwrap()).unwrap_err().to_string();
    assert!(refusal("wss://x/ws").contains("plain ws:// only"));
    assert!(refusal("http://x/ws").contains("plain ws:// only"));
    assert!(refusal("not a url").contains("failed to read --url not a url"));
}
