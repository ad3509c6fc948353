//! Invalid input: each kind is refused with its own code, takes no slot, and affects no other client.

use wscluster_ws::frame::{Opcode, client_frame};

use super::*;

#[tokio::test]
async fn refuses_heads_that_are_no_upgrade() {
    let rig = Rig::start(1, |_| {}).await;
    let good = upgrade(rig.server.addr, "/ws");
    let host = format!("Host: {}\r\n", rig.server.addr);
    let with = |from: &str, to: &str| good.replace(from, to);
    let cases = [
        (with("GET ", "POST "), 405, "method"),
        (with("HTTP/1.1", "HTTP/1.0"), 400, "http_1_0"),
        (with(&host, ""), 400, "host"),
        (with(&host, &format!("{host}{host}")), 400, "host"),
        (with("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400, "key"),
        (with("Version: 13", "Version: 8"), 426, "websocket_version"),
        (with("Upgrade: websocket\r\n", ""), 426, "no_upgrade"),
        (with("Connection: Upgrade", "Connection: close"), 400, "connection"),
        (with("Upgrade: w", "Content-Length: 5\r\nUpgrade: w"), 400, "body"),
        (with("/ws", "/elsewhere"), 404, "not_found"),
        (with("Upgrade: w", &format!("X: {}\r\nUpgrade: w", "x".repeat(20_000))), 431, "head_too_large"),
        (with("Upgrade: w", &format!("{}Upgrade: w", "X: 1\r\n".repeat(120))), 431, "too_many_headers"),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n".to_owned(), 400, "malformed"),
        ("garbage before a head\r\n".to_owned() + &good, 505, "http_version"),
        ("\u{0}".to_owned() + &good, 400, "malformed"),
    ];
    let count = cases.len();
    for (text, status, error) in cases {
        let mut raw = rig.raw().await;
        raw.write_all(text.as_bytes()).await.unwrap();
        let answer = String::from_utf8(read_all(&mut raw).await).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{error}: {answer}");
        assert!(answer.contains("Connection: close"), "{answer}");
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(body["error"], error, "{body}");
        assert!(body["message"].as_str().unwrap().len() > 10, "{body}");
    }
    assert_eq!(rig.metric_sum("wscluster_shard_handshakes_total"), count as f64);
    assert_eq!(rig.used(), 0);
    rig.connect().await;
}

#[tokio::test]
async fn ends_a_handshake_that_is_too_slow() {
    let rig = Rig::start(1, |settings| settings.head_timeout = Duration::from_millis(50)).await;
    let mut raw = rig.raw().await;
    raw.write_all(b"GET /ws HTTP/1.1\r\n").await.unwrap();
    let answer = String::from_utf8(read_all(&mut raw).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(rig.metric("wscluster_shard_handshakes_total{outcome=\"head_timeout\"}"), 1.0);
}

#[tokio::test]
async fn accepts_a_head_byte_by_byte_and_frames_right_after_it() {
    let mut rig = Rig::start(1, |_| {}).await;
    let mut raw = rig.raw().await;
    let text = upgrade(rig.server.addr, "/ws");
    for byte in text.as_bytes() {
        raw.write_all(&[*byte]).await.unwrap();
    }
    assert!(read_head(&mut raw).await.starts_with("HTTP/1.1 101 "));

    let mut raw = rig.raw().await;
    let subscribe = br#"{"type":"subscribe","data":{"channels":["a"]}}"#;
    let frame = client_frame(Opcode::Text, subscribe, [9, 8, 7, 6]);
    raw.write_all(&[text.as_bytes(), &frame[..]].concat()).await.unwrap();
    assert!(read_head(&mut raw).await.starts_with("HTTP/1.1 101 "));
    let ack = read_message(&mut raw).await;
    assert_eq!(ack, json!({ "type": "subscription_ack", "subscribed": ["a"], "count": 1 }));
    rig.publish("a", json!(1)).await;
    assert_eq!(raw.read_u8().await.unwrap(), 0x81);
}

#[tokio::test]
async fn fails_connections_that_break_the_frame_rules() {
    let rig = Rig::start(1, |settings| settings.delivery.max_message_bytes.0 = 1_000).await;
    let text = |payload: &[u8]| client_frame(Opcode::Text, payload, [1, 2, 3, 4]).to_vec();
    let first = |frame: Vec<u8>, byte: u8| [vec![byte], frame[1..].to_vec()].concat();
    let cases: [(&str, Vec<u8>, u16); 9] = [
        ("unmasked", wscluster_ws::frame::server_frame(Opcode::Text, b"{}").to_vec(), 1002),
        ("reserved bit", first(text(b"{}"), 0xc1), 1002),
        ("reserved opcode", first(text(b"{}"), 0x83), 1002),
        ("fragmented ping", first(text(b"{}"), 0x09), 1002),
        ("lone continuation", first(text(b"{}"), 0x80), 1002),
        ("too big", text(&[b'x'; 1_001]), 1009),
        ("not UTF-8", text(&[0xff, 0xff]), 1007),
        ("bad close code", client_frame(Opcode::Close, &[3, 237], [0; 4]).to_vec(), 1002),
        ("binary", client_frame(Opcode::Binary, b"x", [0; 4]).to_vec(), 1003),
    ];
    for (name, bytes, code) in cases {
        let mut raw = rig.upgraded("/ws").await;
        raw.write_all(&bytes).await.unwrap();
        if code == 1003 {
            // The shard waits for the end of a peer that keeps the rules.
            raw.write_all(&client_frame(Opcode::Close, &code.to_be_bytes(), [0; 4])).await.unwrap();
        }
        let answer = read_all(&mut raw).await;
        assert_eq!((answer[0], u16::from_be_bytes([answer[2], answer[3]])), (0x88, code), "{name}");
        drop(raw);
        rig.until_used(0).await;
    }
}

#[tokio::test]
async fn answers_bad_requests_and_stays_connected() {
    let rig = Rig::start(1, |_| {}).await;
    let mut client = rig.connect().await;
    for (text, code) in [
        ("no json", "bad_json"),
        ("[1,2]", "bad_request"),
        (r#"{"type":"buy","id":"x7"}"#, "unknown_type"),
        (r#"{"type":"subscribe","id":"x7","data":{"channels":[7]}}"#, "bad_request"),
        (r#"{"type":"reconnect","id":"x7","data":{}}"#, "bad_request"),
    ] {
        client.0.send(Message::text(text)).await.unwrap();
        let error = client.json().await;
        assert_eq!((&error["type"], &error["code"]), (&"error".into(), &code.into()), "{text}");
        assert_eq!(error["ref"], if text.contains("x7") { "x7".into() } else { Value::Null });
    }
    assert_eq!(client.subscribe(&["a"]).await["count"], 1);
}

#[tokio::test]
async fn refuses_more_channels_than_allowed_as_a_whole() {
    let mut rig = Rig::start(1, |settings| {
        settings.delivery.max_subscriptions = 3;
        settings.delivery.max_message_bytes.0 = 1 << 20;
    })
    .await;
    let mut client = rig.connect().await;
    client.subscribe(&["a", "b"]).await;
    assert_eq!(client.subscribe(&["b", "c"]).await["count"], 3, "one of them was there already");
    let error = client.subscribe(&["c", "d", "e"]).await;
    assert_eq!(error["code"], "too_many_subscriptions");
    assert_eq!(client.closed().await.0, 4101);
    rig.until_used(0).await;
    rig.publish("d", json!(1)).await;

    let mut client = rig.connect().await;
    let many: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
    let error = client.subscribe(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(error["code"], "too_many_subscriptions");
}

#[tokio::test]
async fn a_client_that_never_reads_its_answers_is_not_read() {
    let rig = Rig::start(1, |settings| settings.delivery.max_queue_bytes.0 = 64 << 10).await;
    let raw = rig.upgraded("/ws").await;
    socket2::SockRef::from(&raw).set_recv_buffer_size(4 << 10).unwrap();
    let (_reader, mut writer) = raw.into_split();
    let ask = client_frame(Opcode::Text, br#"{"type":"heartbeat"}"#, [1; 4]).repeat(1_000);
    // The client's socket fills up, because the shard stops reading.
    let sent = tokio::time::timeout(Duration::from_secs(2), async {
        for _ in 0..20_000 {
            writer.write_all(&ask).await.unwrap();
        }
    })
    .await;
    assert!(sent.is_err(), "500 MB were taken");
    let queued = rig.metric("wscluster_shard_client_queue_bytes");
    // At most the answers to one read exceed the limit.
    assert!(queued < f64::from(1 << 20), "{queued} bytes wait");
    rig.connect().await;
}
