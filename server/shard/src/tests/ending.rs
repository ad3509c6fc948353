//! The end of connections whose peer is silent, does not close, or is gone.

use wscluster_api::units::Span;
use wscluster_ws::frame::{Opcode, client_frame};

use super::*;

#[tokio::test]
async fn a_panic_over_one_client_ends_that_client_only() {
    let mut rig = Rig::start(1, |_| {}).await;
    let mut other = rig.connect().await;
    other.subscribe(&["a"]).await;
    let mut cause = rig.connect().await;
    rig.until_used(2).await;
    cause.0.send(Message::text(PANIC)).await.unwrap();
    rig.until_used(1).await;
    // Also when the message arrives with the head.
    let mut raw = rig.raw().await;
    let mut bytes = upgrade(rig.server.addr, "/ws").into_bytes();
    bytes.extend_from_slice(&client_frame(Opcode::Text, PANIC.as_bytes(), [5; 4]));
    raw.write_all(&bytes).await.unwrap();
    rig.until_used(2).await;
    drop(raw);
    rig.until_used(1).await;
    rig.publish("a", json!(1)).await;
    assert_eq!(other.json().await["data"], 1);
    other.send(json!({ "type": "heartbeat" })).await;
    assert_eq!(other.json().await["type"], "pong");
}

#[tokio::test]
async fn pings_clients_and_disconnects_silent_ones() {
    let rig = Rig::start(1, |settings| {
        settings.delivery.ping_interval = Span::millis(200);
        settings.delivery.pong_timeout = Span::millis(700);
    })
    .await;
    let mut answering = rig.connect().await;
    let mut silent = rig.upgraded("/ws").await;
    rig.until_used(2).await;
    // Polling the client makes it answer pings.
    let poll = tokio::spawn(async move { while answering.0.next().await.is_some() {} });
    let received = read_all(&mut silent).await;
    assert!(received.chunks(2).all(|frame| frame == [0x89, 0]), "pings only: {received:?}");
    assert!(received.len() >= 2 * 2, "{received:?}");
    rig.until_used(1).await;
    assert_eq!(rig.metric("wscluster_shard_connection_closes_total{code=\"1006\"}"), 1.0);
    poll.abort();
}

#[tokio::test]
async fn any_frame_proves_that_a_client_is_alive() {
    let rig = Rig::start(1, |settings| {
        settings.delivery.ping_interval = Span::millis(300);
        settings.delivery.pong_timeout = Span::millis(600);
    })
    .await;
    let mut raw = rig.upgraded("/ws").await;
    let start = tokio::time::Instant::now();
    // No pong, but another frame every 100 ms, for several times the limit.
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    while start.elapsed() < Duration::from_secs(3) {
        beat.tick().await;
        raw.write_all(&client_frame(Opcode::Text, br#"{"type":"heartbeat"}"#, [3; 4])).await.unwrap();
    }
    assert_eq!(rig.used(), 1);
}

#[tokio::test]
async fn waits_for_the_peers_close_but_not_for_ever() {
    let rig = Rig::start(1, |_| {}).await;
    // This client neither answers the Close nor closes its socket.
    let mut raw = rig.upgraded("/ws").await;
    raw.write_all(&client_frame(Opcode::Binary, b"x", [0; 4])).await.unwrap();
    let answer = read_all(&mut raw).await;
    assert_eq!(answer[..2], [0x88, answer.len() as u8 - 2]);
    rig.until_used(0).await;
    drop(raw);
}

#[tokio::test]
async fn frees_the_slot_after_both_close_frames() {
    let rig = Rig::start(1, |_| {}).await;
    let mut raw = rig.upgraded("/ws").await;
    raw.write_all(&client_frame(Opcode::Close, b"", [0; 4])).await.unwrap();
    assert_eq!(read_all(&mut raw).await, [0x88, 0], "an empty Close is answered by an empty one, then the end");
    // The client's side is still open.
    rig.until_used(0).await;
    drop(raw);
}

#[tokio::test]
async fn answers_pending_requests_when_the_client_has_ended_its_side_or_closed() {
    for close in [None, Some(client_frame(Opcode::Close, &[0x03, 0xe9], [9; 4]))] {
        let rig = Rig::start(1, |_| {}).await;
        let mut raw = rig.upgraded("/ws").await;
        let mut requests = Vec::new();
        for (id, since) in [(1, "ab-0-1000"), (2, "ab-0-2000")] {
            let data = json!({ "channels": [since], "since": { since: since } });
            let text = json!({ "type": "subscribe", "id": id, "data": data }).to_string();
            requests.extend_from_slice(&client_frame(Opcode::Text, text.as_bytes(), [7; 4]));
        }
        requests.extend_from_slice(close.as_deref().unwrap_or_default());
        raw.write_all(&requests).await.unwrap();
        if close.is_none() {
            raw.shutdown().await.unwrap();
        }
        for (id, since) in [(1, "ab-0-1000"), (2, "ab-0-2000")] {
            let ack = read_message(&mut raw).await;
            assert_eq!((&ack["ref"], &ack["reason"][since]), (&id.into(), &"unknown_position".into()), "{ack}");
        }
        let answer: &[u8] = if close.is_some() { &[0x88, 2, 0x03, 0xe9] } else { &[] };
        assert_eq!(read_all(&mut raw).await, answer, "then the end");
        rig.until_used(0).await;
        assert_eq!(rig.metric("wscluster_shard_subscriptions"), 0.0);
    }
}

#[tokio::test]
async fn ignores_requests_after_its_close() {
    let mut rig = Rig::start(1, |settings| settings.delivery.max_subscriptions = 1).await;
    let mut client = rig.connect().await;
    client.send(json!({ "type": "subscribe", "data": { "channels": ["a", "b"] } })).await;
    client.send(json!({ "type": "subscribe", "data": { "channels": ["a"] } })).await;
    assert_eq!(client.json().await["code"], "too_many_subscriptions");
    assert_eq!(client.closed().await.0, 4101);
    rig.publish("a", json!(1)).await;
    assert!(soon("the end", client.0.next()).await.is_none());
}
