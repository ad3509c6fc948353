//! Clients with full sockets, under each policy.

use wscluster_api::spec::SlowClient;
use wscluster_ws::decode::{Decoder, Event, Flow, Role};

use super::*;

const QUEUE: usize = 32 << 10;

async fn rig(policy: SlowClient) -> Rig {
    Rig::start(1, |settings| {
        settings.delivery.slow_client = policy;
        settings.delivery.max_queue_bytes.0 = QUEUE as u64;
    })
    .await
}

/// A client that subscribes to `channels`, reads the answer, and stops reading.
async fn stalled(rig: &Rig, channels: &[&str]) -> TcpStream {
    let raw = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    raw.set_recv_buffer_size(4 << 10).unwrap();
    raw.connect(&rig.server.addr.into()).unwrap();
    raw.set_nonblocking(true).unwrap();
    let mut raw = TcpStream::from_std(raw.into()).unwrap();
    raw.write_all(upgrade(rig.server.addr, "/ws").as_bytes()).await.unwrap();
    assert!(read_head(&mut raw).await.starts_with("HTTP/1.1 101 "));
    let text = json!({ "type": "subscribe", "data": { "channels": channels } }).to_string();
    let frame = wscluster_ws::frame::client_frame(wscluster_ws::frame::Opcode::Text, text.as_bytes(), [5; 4]);
    raw.write_all(&frame).await.unwrap();
    read_message(&mut raw).await;
    raw
}

/// Adds the messages in `bytes` and returns the code of a Close frame after them.
fn take(decoder: &mut Decoder, bytes: &mut [u8], messages: &mut Vec<Value>) -> Option<u16> {
    let mut code = None;
    let flow = decoder.decode(bytes, &mut |event| {
        match event {
            Event::Text(text) => messages.push(serde_json::from_str(text).unwrap()),
            Event::Close(closed, _) => code = closed,
            Event::Ping(_) => {}
            other => panic!("{other:?}"),
        }
        Flow::Continue
    });
    flow.unwrap();
    code
}

/// The messages in `bytes` and the code of the Close frame at the end. Panics if a frame is cut.
fn messages(mut bytes: Vec<u8>) -> (Vec<Value>, Option<u16>) {
    let (mut messages, mut decoder) = (Vec::new(), Decoder::new(Role::Client, 1 << 30));
    let code = take(&mut decoder, &mut bytes, &mut messages);
    assert!(decoder.is_idle(), "the last frame is cut");
    (messages, code)
}

/// Publishes to `channels` in turn until the policy has been applied to the stalled client, then as much again. A
/// healthy client gets all messages.
async fn overwhelm(rig: &mut Rig, channels: &[&str], healthy: &mut Client) -> usize {
    let (mut sent, mut more) = (0, None);
    loop {
        for _ in 0..20 {
            rig.publish(channels[sent % channels.len()], json!({ "n": sent, "pad": "x".repeat(2_000) })).await;
            assert_eq!(healthy.json().await["data"]["n"], sent);
            sent += 1;
        }
        let queued = rig.metric("wscluster_shard_client_queue_bytes");
        assert!(queued <= (QUEUE + 3_000) as f64, "{queued} bytes wait for one client");
        match more {
            None if rig.metric_sum("wscluster_shard_slow_clients_total") > 0.0 => more = Some(sent * 2),
            Some(end) if sent >= end => return sent,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_disconnected_slow_client_recovers_everything() {
    let mut rig = rig(SlowClient::Disconnect).await;
    let mut slow = stalled(&rig, &["a"]).await;
    let mut healthy = rig.connect().await;
    healthy.subscribe(&["a"]).await;
    overwhelm(&mut rig, &["a"], &mut healthy).await;
    let (messages, code) = messages(read_all(&mut slow).await);
    assert_eq!(code, Some(4100));
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(message["data"]["n"], number, "what was sent has no hole");
    }
    drop(slow);
    rig.until_used(1).await;
    assert_eq!(rig.metric("wscluster_shard_slow_clients_total{policy=\"disconnect\"}"), 1.0);

    // It reconnects with the last position and has missed nothing.
    let last = messages.last().unwrap();
    let mut client = rig.connect().await;
    let data = json!({ "channels": ["a"], "since": { "a": last["pos"] } });
    client.send(json!({ "type": "subscribe", "data": data })).await;
    assert_eq!(client.json().await["recovered"]["a"], true);
    assert_eq!(client.json().await["data"]["n"], messages.len());
}

#[tokio::test]
async fn drop_oldest_keeps_the_newest_and_no_answer_is_lost() {
    let mut rig = rig(SlowClient::DropOldest).await;
    let mut slow = stalled(&rig, &["a"]).await;
    let mut healthy = rig.connect().await;
    healthy.subscribe(&["a"]).await;
    let heartbeat =
        wscluster_ws::frame::client_frame(wscluster_ws::frame::Opcode::Text, br#"{"type":"heartbeat"}"#, [5; 4]);
    slow.write_all(&heartbeat).await.unwrap();
    let sent = overwhelm(&mut rig, &["a"], &mut healthy).await;
    assert_eq!(rig.used(), 2);
    let received = read_until_last(&mut slow, sent).await;
    let numbers: Vec<u64> = received.iter().filter_map(|message| message["data"]["n"].as_u64()).collect();
    assert!(numbers.is_sorted() && numbers.last() == Some(&(sent as u64 - 1)));
    assert!(numbers.len() < sent);
    let dropped = (sent - numbers.len()) as f64;
    until("all drops counted", || rig.metric("wscluster_shard_dropped_messages_total") == dropped).await;
    assert!(received.iter().any(|message| message["type"] == "pong"));
}

#[tokio::test]
async fn conflate_keeps_the_latest_of_each_channel() {
    let mut rig = rig(SlowClient::Conflate).await;
    let channels = ["a", "b", "c"];
    let mut slow = stalled(&rig, &channels).await;
    let mut healthy = rig.connect().await;
    healthy.subscribe(&channels).await;
    let sent = overwhelm(&mut rig, &channels, &mut healthy).await;
    let received = read_until_last(&mut slow, sent).await;
    assert!(received.len() < sent);
    let dropped = (sent - received.len()) as f64;
    until("all drops counted", || rig.metric("wscluster_shard_dropped_messages_total") == dropped).await;
    for channel in channels {
        let of: Vec<u64> = received
            .iter()
            .filter(|message| message["channel"] == channel)
            .map(|message| message["seq"].as_u64().unwrap())
            .collect();
        assert!(of.is_sorted(), "{channel}");
        let last = (0..sent as u64).rev().find(|number| channels[*number as usize % 3] == channel);
        assert_eq!(of.last().copied(), last, "{channel}");
    }
}

#[tokio::test]
async fn conflate_disconnects_when_one_message_of_each_channel_is_too_much() {
    let mut rig = rig(SlowClient::Conflate).await;
    let channels: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
    let mut slow = stalled(&rig, &channels).await;
    let mut healthy = rig.connect().await;
    healthy.subscribe(&channels).await;
    overwhelm(&mut rig, &channels, &mut healthy).await;
    assert_eq!(messages(read_all(&mut slow).await).1, Some(4100));
}

#[tokio::test]
async fn a_replay_larger_than_the_queue_reaches_a_slow_reader() {
    let mut rig = rig(SlowClient::Disconnect).await;
    let records: Vec<_> =
        (0..4_000).map(|number| rig.record("a", &json!({ "n": number, "pad": "x".repeat(1_000) }))).collect();
    rig.feed(Update::Records(records)).await;
    until("records taken", || rig.metric("wscluster_shard_records_total") >= 4_000.0).await;
    let mut slow = stalled(&rig, &["other"]).await;
    let text = json!({ "type": "subscribe", "data": { "channels": ["a"], "since": { "a": "ab-0-0" } } }).to_string();
    let frame = wscluster_ws::frame::client_frame(wscluster_ws::frame::Opcode::Text, text.as_bytes(), [5; 4]);
    slow.write_all(&frame).await.unwrap();
    until("it is blocked", || rig.metric("wscluster_shard_client_queue_blocked_bytes") > QUEUE as f64).await;
    for number in 4_000..4_010 {
        rig.publish("a", json!({ "n": number })).await;
    }
    let received = read_until_last(&mut slow, 4_010).await;
    let numbers: Vec<u64> = received.iter().filter_map(|message| message["data"]["n"].as_u64()).collect();
    assert_eq!(numbers, (1..4_010).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_that_reads_nothing_gets_one_replay_at_a_time() {
    let mut rig = rig(SlowClient::Disconnect).await;
    let records: Vec<_> =
        (0..1_000).map(|number| rig.record("a", &json!({ "n": number, "pad": "x".repeat(1_000) }))).collect();
    rig.feed(Update::Records(records)).await;
    until("records taken", || rig.metric("wscluster_shard_records_total") >= 1_000.0).await;
    let mut slow = stalled(&rig, &["a"]).await;
    let text = json!({ "type": "reconnect", "data": { "last_offset": { "odin.trades": 499 } } }).to_string();
    let frame = wscluster_ws::frame::client_frame(wscluster_ws::frame::Opcode::Text, text.as_bytes(), [5; 4]);
    slow.write_all(&frame.repeat(20)).await.unwrap();
    // It is served again after it has read.
    let mut received = Vec::new();
    while received.len() < 500 + 20 {
        received.push(read_message(&mut slow).await);
    }
    let count = |kind: &str| received.iter().filter(|message| message["type"] == kind).count();
    assert_eq!([count("replay:message"), count("reconnect_ack"), count("reconnect_error")], [500, 1, 19]);
    slow.write_all(&frame).await.unwrap();
    for _ in 0..500 {
        assert_eq!(read_message(&mut slow).await["type"], "replay:message");
    }
    assert_eq!(read_message(&mut slow).await["type"], "reconnect_ack");
}

#[tokio::test]
async fn a_second_recovery_waits_until_the_first_is_read() {
    let mut rig = rig(SlowClient::Disconnect).await;
    let records: Vec<_> = (0..2_000)
        .map(|number| rig.record(["a", "b"][number % 2], &json!({ "n": number, "pad": "x".repeat(1_000) })))
        .collect();
    rig.feed(Update::Records(records)).await;
    until("records taken", || rig.metric("wscluster_shard_records_total") >= 2_000.0).await;
    let mut slow = stalled(&rig, &["other"]).await;
    for channel in ["a", "b"] {
        let data = json!({ "channels": [channel], "since": { channel: "ab-0-1" } });
        let text = json!({ "type": "subscribe", "data": data }).to_string();
        let frame = wscluster_ws::frame::client_frame(wscluster_ws::frame::Opcode::Text, text.as_bytes(), [5; 4]);
        slow.write_all(&frame).await.unwrap();
    }
    let received = read_until_last(&mut slow, 2_000).await;
    let acks: Vec<&Value> = received.iter().filter(|message| message["type"] == "subscription_ack").collect();
    assert_eq!((acks[0]["recovered"]["a"].as_bool(), acks[1]["recovered"]["b"].as_bool()), (Some(true), Some(true)));
    assert_eq!(received.len(), 2 + 1_998);
}

#[tokio::test]
async fn a_dropped_replay_leaves_no_allowance_for_live_messages() {
    for policy in [SlowClient::DropOldest, SlowClient::Conflate] {
        let mut rig = rig(policy).await;
        let records: Vec<_> =
            (0..4_000).map(|number| rig.record("a", &json!({ "n": number, "pad": "x".repeat(1_000) }))).collect();
        rig.feed(Update::Records(records)).await;
        until("records taken", || rig.metric("wscluster_shard_records_total") >= 4_000.0).await;
        let mut slow = stalled(&rig, &["other"]).await;
        let text =
            json!({ "type": "subscribe", "data": { "channels": ["a"], "since": { "a": "ab-0-0" } } }).to_string();
        let frame = wscluster_ws::frame::client_frame(wscluster_ws::frame::Opcode::Text, text.as_bytes(), [5; 4]);
        slow.write_all(&frame).await.unwrap();
        until("it is blocked", || rig.metric("wscluster_shard_client_queue_blocked_bytes") > QUEUE as f64).await;
        for number in 4_000..4_500 {
            rig.publish("a", json!({ "n": number, "pad": "x".repeat(1_000) })).await;
        }
        until("the limit holds", || {
            rig.metric("wscluster_shard_records_total") == 4_500.0
                && rig.metric("wscluster_shard_client_queue_blocked_bytes") <= QUEUE as f64
        })
        .await;
        assert!(rig.metric_sum("wscluster_shard_slow_clients_total") > 0.0);
        // The replay is written, so another one is allowed.
        let text = json!({ "type": "reconnect", "data": { "last_offset": { "odin.trades": 4_490 } } }).to_string();
        let frame = wscluster_ws::frame::client_frame(wscluster_ws::frame::Opcode::Text, text.as_bytes(), [5; 4]);
        slow.write_all(&frame).await.unwrap();
        let answer = loop {
            let message = read_message(&mut slow).await;
            let kind = message["type"].as_str().unwrap();
            if kind.starts_with("reconnect_") {
                break kind.to_owned();
            }
        };
        assert_eq!(answer, "reconnect_ack", "{policy:?}");
    }
}

#[tokio::test]
async fn a_client_whose_socket_accepts_nothing_counts_as_silent() {
    let mut rig = Rig::start(1, |settings| {
        settings.delivery.slow_client = SlowClient::DropOldest;
        settings.delivery.max_queue_bytes.0 = QUEUE as u64;
        settings.delivery.pong_timeout.0 = Duration::from_secs(2);
    })
    .await;
    let slow = stalled(&rig, &["a"]).await;
    // Sooner than the timeout of its kernel.
    soon("the end of the silent client", async {
        while rig.used() > 0 {
            rig.publish("a", json!("x".repeat(2_000))).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(rig.metric_sum("wscluster_shard_slow_clients_total") > 0.0);
    drop(slow);
}

/// Reads up to message number `end - 1`.
async fn read_until_last(raw: &mut TcpStream, end: usize) -> Vec<Value> {
    let mut received: Vec<Value> = Vec::new();
    let mut decoder = Decoder::new(Role::Client, 1 << 30);
    soon("the last message", async {
        let mut buffer = vec![0; 64 << 10];
        let mut known = 0;
        while !received[known..].iter().any(|message| message["data"]["n"] == end - 1) {
            known = received.len();
            let len = raw.read(&mut buffer).await.unwrap();
            assert!(len > 0, "ended after {known}");
            take(&mut decoder, &mut buffer[..len], &mut received);
        }
    })
    .await;
    received
}
