//! Faults of clients, and the answers to them.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::rig::{FakeShard, KEY, Rig, Script, good, settings, until};

#[tokio::test]
async fn opens_a_tunnel_and_passes_bytes_both_ways() {
    let shard = FakeShard::start(Script::Serve, 9).await;
    let rig = Rig::start(&[&shard], settings());
    let mut wire = rig.connect().await;
    wire.send(&good("Cookie: a=b\r\nX-Wscluster-Load: 0/0\r\n")).await;
    let answer = wire.answer().await;
    assert_eq!(answer.status, 101);
    assert!(answer.has("Set-Cookie: a=b"), "{answer:?}");
    assert!(!answer.head.contains("X-Wscluster"), "{answer:?}");
    wire.send("some frames").await;
    assert_eq!(wire.bytes(11).await, b"some frames");
    let received = String::from_utf8(shard.received.lock().unwrap().clone()).unwrap();
    assert!(received.contains("Cookie: a=b\r\nX-Forwarded-For: 127.0.0.1\r\n\r\nsome frames"), "{received}");
    assert!(!received.contains("X-Wscluster"), "{received}");
    assert_eq!(rig.shard(0).load().connections, 1);
    drop(wire);
    until("the slot is free", || shard.slots.load(SeqCst) == 0 && rig.gateway.is_idle()).await;
    assert_eq!(rig.shard(0).load().connections, 0);
    rig.settled().await;
}

#[tokio::test]
async fn refuses_bad_requests_without_asking_a_shard() {
    let shard = FakeShard::start(Script::Serve, 9).await;
    let rig = Rig::start(&[&shard], settings());
    let long = "x".repeat(3_000);
    let many = "a: b\r\n".repeat(20);
    let cases: [(String, u16, &str); 16] = [
        (good("").replace("GET", "POST"), 405, "method"),
        (good("").replace("HTTP/1.1", "HTTP/1.0"), 400, "http_1_0"),
        (good("").replace("Host: h\r\n", ""), 400, "host"),
        (good("Host: h\r\n"), 400, "host"),
        (good("").replace(KEY, "c2hvcnQ="), 400, "key"),
        (good("").replace("Version: 13", "Version: 8"), 426, "websocket_version"),
        (good("").replace("Upgrade: websocket\r\n", ""), 426, "no_upgrade"),
        (good("").replace("Connection: Upgrade", "Connection: close"), 400, "connection"),
        (good("Content-Length: 4\r\n") + "body", 400, "body"),
        (good("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400, "body"),
        (good(&format!("A: {long}\r\n")), 431, "head_too_large"),
        (good(&many), 431, "too_many_headers"),
        (good("").replace("/ws", "http://other/ws"), 400, "host"),
        (good("").replace("/ws", "h:443"), 400, "target"),
        (good("A: b\r\n c\r\n"), 400, "malformed"),
        ("\u{16}\u{3}\u{1}".to_owned(), 400, "malformed"),
    ];
    for (request, status, code) in &cases {
        let mut wire = rig.connect().await;
        wire.send(request).await;
        let answer = wire.final_answer().await;
        assert_eq!(answer.status, *status, "{request} {answer:?}");
        let body: serde_json::Value = serde_json::from_slice(&answer.rest).unwrap();
        assert_eq!(body["error"], *code);
        assert!(answer.head.contains("Connection: close"), "{answer:?}");
        assert!(answer.has(&format!("Content-Length: {}", answer.rest.len())), "{answer:?}");
    }
    assert_eq!(shard.asked.load(SeqCst), 0);
    rig.settled().await;
    assert_eq!(rig.gateway.metrics.count("refused", "body"), 2);
}

#[tokio::test]
async fn reads_a_head_that_arrives_byte_by_byte() {
    let shard = FakeShard::start(Script::Serve, 9).await;
    let rig = Rig::start(&[&shard], settings());
    let mut wire = rig.connect().await;
    for byte in good("").chars() {
        wire.send(&byte.to_string()).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(wire.answer().await.status, 101);
}

#[tokio::test]
async fn answers_a_slow_client_with_408() {
    let shard = FakeShard::start(Script::Serve, 9).await;
    let rig =
        Rig::start(&[&shard], crate::settings::Settings { head_timeout: Duration::from_millis(50), ..settings() });
    let mut wire = rig.connect().await;
    wire.send("GET /ws HTTP/1.1\r\nHost:").await;
    assert_eq!(wire.final_answer().await.status, 408);
    rig.settled().await;
    assert_eq!(rig.gateway.metrics.count("refused", "head_timeout"), 1);
}

#[tokio::test]
async fn passes_bytes_sent_before_the_101_only_after_it() {
    let shard = FakeShard::start(Script::Serve, 1).await;
    let rig = Rig::start(&[&shard], settings());
    let mut wire = rig.connect().await;
    wire.send(&(good("") + "early")).await;
    assert_eq!(wire.answer().await.status, 101);
    assert_eq!(wire.bytes(5).await, b"early");

    let picky = FakeShard::start(Script::Say("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"), 1).await;
    let rig = Rig::start(&[&picky], settings());
    let mut wire = rig.connect().await;
    wire.send(&(good("") + "GET /smuggled HTTP/1.1\r\n\r\n")).await;
    assert_eq!(wire.final_answer().await.status, 404);
    let received = String::from_utf8(picky.received.lock().unwrap().clone()).unwrap();
    assert!(!received.contains("smuggled"), "{received}");
}

#[tokio::test]
async fn admits_browsers_from_allowed_origins_only() {
    let shard = FakeShard::start(Script::Serve, 9).await;
    let allowed_origins = vec!["https://example.com".to_owned()];
    let rig = Rig::start(&[&shard], crate::settings::Settings { allowed_origins, ..settings() });
    for (origin, status) in [
        ("Origin: https://example.com\r\n", 101),
        ("Origin: https://EXAMPLE.com\r\n", 101),
        ("Origin: https://example.com.evil.org\r\n", 403),
        ("Origin: null\r\n", 403),
        ("", 101),
    ] {
        let mut wire = rig.connect().await;
        wire.send(&good(origin)).await;
        assert_eq!(wire.answer().await.status, status, "{origin}");
    }
}

#[tokio::test]
async fn counts_a_port_check_as_idle() {
    let shard = FakeShard::start(Script::Serve, 9).await;
    let rig = Rig::start(&[&shard], settings());
    drop(rig.connect().await);
    until("it was seen", || rig.gateway.metrics.totals().1 == 1).await;
    assert_eq!(rig.gateway.metrics.count("idle", ""), 1);
    rig.settled().await;
}

#[tokio::test]
async fn slot_returns_when_the_client_leaves_before_the_101() {
    let shard = FakeShard::start(Script::Hang, 9).await;
    let rig = Rig::start(&[&shard], settings());
    let wire = rig.ask().await;
    until("the shard was asked", || shard.asked.load(SeqCst) == 1).await;
    assert_eq!(rig.shard(0).load().in_flight, 1);
    drop(wire);
    until("the shard is left", || shard.open.load(SeqCst) == 0).await;
    rig.settled().await;
    assert_eq!(rig.gateway.metrics.count("client_gone", "answer"), 1);
    assert_eq!(rig.shard(0).load().in_flight, 0);
}
