//! The guarantees of `docs/protocol.md` to clients.

use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::*;

#[tokio::test]
async fn sends_each_record_to_its_subscribers_only() {
    let mut rig = Rig::start(2, |_| {}).await;
    let mut clients = Vec::new();
    for number in 0..20 {
        let mut client = rig.connect().await;
        let channel = if number % 2 == 0 { "BTC.trade" } else { "ETH.trade" };
        assert_eq!(
            client.subscribe(&[channel]).await,
            json!({ "type": "subscription_ack", "subscribed": [channel], "count": 1 })
        );
        clients.push((channel, client));
    }
    let btc = rig.publish("BTC.trade", json!({ "price": 1 })).await;
    let eth = rig.publish("ETH.trade", json!({ "price": 2 })).await;
    for (channel, client) in &mut clients {
        let message = client.json().await;
        assert_eq!(message["channel"], *channel);
        assert_eq!(message["pos"], if *channel == "BTC.trade" { btc } else { eth }.to_string());
    }
    assert_eq!(rig.metric_sum("wscluster_shard_handshakes_total"), 20.0);
    until("subscriptions counted", || rig.metric("wscluster_shard_subscriptions") == 20.0).await;
    until("deliveries counted", || rig.metric("wscluster_shard_deliveries_total") >= 40.0).await;
}

#[tokio::test]
async fn serves_clients_of_the_replaced_service() {
    let mut rig = Rig::start(1, |_| {}).await;
    let mut client = rig.connect().await;
    let ack = client.subscribe(&["BTC.trade", "ETH.trade"]).await;
    assert_eq!(ack, json!({ "type": "subscription_ack", "subscribed": ["BTC.trade", "ETH.trade"], "count": 2 }));
    client.send(json!({ "type": "unsubscribe", "data": { "channels": ["BTC.trade", "none"] } })).await;
    let ack = client.json().await;
    assert_eq!(ack, json!({ "type": "unsubscription_ack", "unsubscribed": ["BTC.trade", "none"], "count": 1 }));
    client.send(json!({ "type": "heartbeat", "id": "h1" })).await;
    let pong = client.json().await;
    assert_eq!((&pong["type"], &pong["ref"]), (&"pong".into(), &"h1".into()));
    assert!(pong["ts"].as_i64().unwrap() > 1_700_000_000_000);
    rig.publish("BTC.trade", json!(1)).await;
    rig.publish("ETH.trade", json!(2)).await;
    assert_eq!(client.json().await["data"], 2);
}

#[tokio::test]
async fn each_client_gets_its_channels_while_others_join_and_leave() {
    let mut rig = Rig::start(1, |_| {}).await;
    let names: Vec<String> = (0..12).map(|number| number.to_string()).collect();
    let channels = |step: usize| -> Vec<&str> { (0..12).map(|at| &*names[(at * step + step) % 12]).collect() };
    let mut clients = Vec::new();
    // The clients act in turn, each in its own order, with one request or several.
    for (step, size) in [(1, 12), (5, 12), (7, 1), (11, 5)] {
        let mut client = rig.connect().await;
        for some in channels(step).chunks(size) {
            client.subscribe(some).await;
        }
        assert_eq!(client.subscribe(&channels(1)).await["count"], 12, "joined before");
        clients.push(client);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let left = [&*names[number], &*names[number + 4], "none"];
        client.send(json!({ "type": "unsubscribe", "data": { "channels": left } })).await;
        assert_eq!(client.json().await["count"], 10);
    }
    drop(clients.remove(1));
    rig.until_used(3).await;
    for name in &names {
        rig.publish(name, json!(name)).await;
    }
    for (client, number) in clients.iter_mut().zip([0, 2, 3]) {
        for name in names.iter().filter(|name| **name != names[number] && **name != names[number + 4]) {
            assert_eq!(client.json().await["channel"], **name);
        }
    }
    until("subscriptions counted", || rig.metric("wscluster_shard_subscriptions") == 30.0).await;
}

#[tokio::test]
async fn joins_and_leaves_very_many_shared_channels() {
    const CHANNELS: usize = 200_000;
    let rig = Rig::start(1, |settings| {
        settings.delivery.max_subscriptions = 1_000_000;
        settings.delivery.max_message_bytes.0 = 64 << 20;
        settings.delivery.max_queue_bytes.0 = 64 << 20;
    })
    .await;
    let names: Vec<String> = (0..CHANNELS).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut first, mut second) = (rig.connect().await, rig.connect().await);
    for client in [&mut first, &mut second] {
        assert_eq!(client.subscribe(&names).await["count"], CHANNELS);
        let half = &names[..CHANNELS / 2];
        client.send(json!({ "type": "unsubscribe", "data": { "channels": half } })).await;
        assert_eq!(client.json().await["count"], CHANNELS / 2);
        assert_eq!(client.subscribe(half).await["count"], CHANNELS);
    }
    drop(first);
    rig.until_used(1).await;
    assert_eq!(second.subscribe(&[]).await["count"], CHANNELS);
}

#[tokio::test]
async fn recovers_what_was_missed_without_hole_or_repeat() {
    let mut rig = Rig::start(1, |_| {}).await;
    let mut seen = Vec::new();
    for number in 0..10 {
        seen.push(rig.publish("BTC.trade", json!(number)).await);
        rig.publish("ETH.trade", json!("other")).await;
    }
    let mut client = rig.connect().await;
    let since = json!({ "BTC.trade": seen[3].to_string() });
    client.send(json!({ "type": "subscribe", "id": 1, "data": { "channels": ["BTC.trade"], "since": since } })).await;
    let ack = client.json().await;
    assert_eq!((&ack["recovered"]["BTC.trade"], &ack["ref"]), (&true.into(), &1.into()));
    rig.publish("BTC.trade", json!(10)).await;
    for number in 4..=10 {
        let message = client.json().await;
        assert_eq!(message["data"], number);
        assert_eq!(message["replayed"], if number == 10 { Value::Null } else { true.into() });
    }
}

#[tokio::test]
async fn reports_why_a_channel_was_not_recovered() {
    let mut rig = Rig::start(1, |_| {}).await;
    rig.publish("BTC.trade", json!(0)).await;
    let mut client = rig.connect().await;
    client.subscribe(&["here"]).await;
    let since = json!({ "BTC.trade": "cd-0-0", "ETH.trade": "garbage", "here": "ab-0-0", "empty": "latest" });
    let channels = ["BTC.trade", "ETH.trade", "here", "empty", "plain"];
    client.send(json!({ "type": "subscribe", "data": { "channels": channels, "since": since } })).await;
    let ack = client.json().await;
    assert_eq!(ack["recovered"], json!({ "BTC.trade": false, "ETH.trade": false, "here": false, "empty": false }));
    assert_eq!(
        ack["reason"],
        json!({ "BTC.trade": "epoch", "ETH.trade": "bad_position", "here": "already_subscribed", "empty": "no_message" })
    );
    assert_eq!(ack["count"], 5);
}

#[tokio::test]
async fn latest_returns_the_last_message() {
    let mut rig = Rig::start(1, |_| {}).await;
    for number in 0..5 {
        rig.publish("BTC.trade", json!(number)).await;
    }
    let mut client = rig.connect().await;
    let data = json!({ "channels": ["BTC.trade"], "since": { "BTC.trade": "latest" } });
    client.send(json!({ "type": "subscribe", "data": data })).await;
    assert_eq!(client.json().await["recovered"]["BTC.trade"], true);
    let message = client.json().await;
    assert_eq!((&message["data"], &message["replayed"]), (&4.into(), &true.into()));
}

#[tokio::test]
async fn clients_that_keep_positions_get_the_first_ones() {
    let mut rig = Rig::start(1, |_| {}).await;
    let last = rig.publish("BTC.trade", json!(0)).await.to_string();
    let mut client = rig.connect().await;
    assert_eq!(client.subscribe(&["BTC.trade"]).await.get("positions"), None, "it does not keep any");
    let mut client = rig.connect().await;
    let since = json!({ "foreign": "cd-0-0", "BTC.trade": null });
    let data = json!({ "channels": ["BTC.trade", "none", "foreign"], "since": since });
    client.send(json!({ "type": "subscribe", "data": data })).await;
    assert_eq!(client.json().await["positions"], json!({ "BTC.trade": last }));
    client.send(json!({ "type": "subscribe", "data": { "channels": ["BTC.trade"], "since": {} } })).await;
    assert_eq!(client.json().await.get("positions"), None, "it was told, and messages may have come since");
    drop(client);

    // No message was published while the client was connected; those published afterwards are recovered.
    let missed = rig.publish("BTC.trade", json!(1)).await;
    let data = json!({ "channels": ["BTC.trade"], "since": { "BTC.trade": last } });
    let mut client = rig.connect().await;
    client.send(json!({ "type": "subscribe", "data": data })).await;
    let ack = client.json().await;
    assert_eq!((&ack["recovered"], ack.get("positions")), (&json!({ "BTC.trade": true }), None));
    rig.publish("BTC.trade", json!(2)).await;
    for number in 1..3 {
        assert_eq!(client.json().await["data"], number);
    }

    // Also when the channel cannot be recovered.
    let mut client = rig.connect().await;
    let data = json!({ "channels": ["BTC.trade"], "since": { "BTC.trade": "cd-0-0" } });
    client.send(json!({ "type": "subscribe", "data": data })).await;
    let ack = client.json().await;
    let now = Position { offset: missed.offset + 1, ..missed }.to_string();
    assert_eq!((&ack["recovered"], &ack["positions"]), (&json!({ "BTC.trade": false }), &json!({ "BTC.trade": now })));
}

#[tokio::test]
async fn a_subscribe_waits_until_the_shard_reaches_the_clients_position() {
    let mut rig = Rig::start(1, |_| {}).await;
    rig.publish("BTC.trade", json!(0)).await;
    let mut client = rig.connect().await;
    let data = json!({ "channels": ["BTC.trade"], "since": { "BTC.trade": "ab-0-2" } });
    client.send(json!({ "type": "subscribe", "data": data })).await;
    client.send(json!({ "type": "heartbeat" })).await;
    assert_eq!(client.json().await["type"], "pong", "the subscribe is held, others are not");
    for number in 1..5 {
        rig.publish("BTC.trade", json!(number)).await;
    }
    assert_eq!(client.json().await["recovered"]["BTC.trade"], true);
    for number in 3..5 {
        assert_eq!(client.json().await["data"], number, "0 to 2 were seen elsewhere");
    }
}

#[tokio::test]
async fn a_waiting_subscribe_reports_a_loss_at_its_deadline() {
    let rig = Rig::start(1, |settings| settings.ahead_timeout = Duration::from_millis(100)).await;
    let mut client = rig.connect().await;
    let data = json!({ "channels": ["BTC.trade"], "since": { "BTC.trade": "ab-0-1000" } });
    client.send(json!({ "type": "subscribe", "data": data })).await;
    let ack = client.json().await;
    assert_eq!(ack["recovered"]["BTC.trade"], false);
    assert_eq!(ack["reason"]["BTC.trade"], "unknown_position");
}

#[tokio::test]
async fn serves_the_old_reconnect() {
    let mut rig = Rig::start(1, |_| {}).await;
    for number in 0..5 {
        rig.publish("BTC.trade", json!(number)).await;
    }
    let mut client = rig.connect().await;
    client.subscribe(&["BTC.trade"]).await;
    let data = json!({ "client_id": "abc", "last_offset": { "odin.trades": 2 } });
    client.send(json!({ "type": "reconnect", "data": data })).await;
    for number in 3..5 {
        let message = client.json().await;
        assert_eq!((&message["type"], &message["data"]), (&"replay:message".into(), &number.into()));
    }
    let ack = client.json().await;
    assert_eq!((&ack["type"], &ack["messages_replayed"]), (&"reconnect_ack".into(), &2.into()));
    assert_eq!(ack["status"], "completed");

    let data = json!({ "client_id": "abc", "last_offset": { "odin.trades": 99 } });
    client.send(json!({ "type": "reconnect", "data": data })).await;
    assert_eq!(client.json().await["type"], "reconnect_error");
}

#[tokio::test]
async fn the_old_reconnect_does_not_repeat_live_messages() {
    let mut rig = Rig::start(1, |_| {}).await;
    for number in 0..5 {
        rig.publish("BTC.trade", json!(number)).await;
    }
    let mut client = rig.connect().await;
    client.subscribe(&["BTC.trade"]).await;
    rig.publish("BTC.trade", json!(5)).await;
    assert_eq!(client.json().await["type"], "price:update");
    client.send(json!({ "type": "reconnect", "data": { "last_offset": { "odin.trades": 2 } } })).await;
    for number in 3..5 {
        let message = client.json().await;
        assert_eq!((&message["type"], &message["data"]), (&"replay:message".into(), &number.into()));
    }
    assert_eq!(client.json().await["messages_replayed"], 2);
}

#[tokio::test]
async fn subscribers_get_a_gap_after_a_loss() {
    let mut rig = Rig::start(1, |_| {}).await;
    rig.publish("BTC.trade", json!(1)).await;
    let mut client = rig.connect().await;
    client.subscribe(&["BTC.trade"]).await;
    rig.feed(Update::Begin { partition: PARTITION, topic: "odin.trades".into(), from: 500, lost: true }).await;
    assert_eq!(client.json().await, json!({ "type": "gap", "channel": "BTC.trade", "positions": "ab-0-499" }));
    let reborn = Partition { epoch: Epoch(0xcd), number: 0 };
    rig.feed(Update::Begin { partition: reborn, topic: "odin.trades".into(), from: 0, lost: true }).await;
    assert_eq!(client.json().await, json!({ "type": "gap", "channel": "BTC.trade" }), "nothing is known there yet");
}

#[tokio::test]
async fn clients_of_the_subprotocol_get_a_hello() {
    let rig = Rig::start(1, |_| {}).await;
    let mut request = rig.url("/ws").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "other, wscluster.v1".parse().unwrap());
    let (socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "wscluster.v1");
    assert_eq!(response.headers()["X-Wscluster-Load"], "1/100");
    let hello = Client(socket).json().await;
    assert_eq!(
        (&hello["type"], &hello["shard"], &hello["ping_ms"]),
        (&"hello".into(), &"prices-0".into(), &27_000.into())
    );
    assert!(hello["session"].is_string());
}

#[tokio::test]
async fn answers_pings_and_echoes_a_close() {
    let rig = Rig::start(1, |_| {}).await;
    let mut client = rig.connect().await;
    client.0.send(Message::Ping("abc".into())).await.unwrap();
    assert_eq!(client.message().await, Message::Pong("abc".into()));
    let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame { code: 4999.into(), reason: "bye".into() };
    client.0.close(Some(frame)).await.unwrap();
    assert_eq!(client.closed().await.0, 4999);
    rig.until_used(0).await;
    assert_eq!(rig.metric("wscluster_shard_connection_closes_total{code=\"4999\"}"), 1.0);
}

#[tokio::test]
async fn serves_echo_only_when_enabled() {
    let rig = Rig::start(1, |settings| settings.echo = true).await;
    let mut client = Client::connect(&rig.url("/echo")).await;
    let big = "ä".repeat(500_000);
    for message in [Message::text("hello"), Message::binary(vec![0, 255, 7]), Message::text(big)] {
        client.0.send(message.clone()).await.unwrap();
        assert_eq!(client.message().await, message);
    }
    let rig = Rig::start(1, |_| {}).await;
    let refused = tokio_tungstenite::connect_async(rig.url("/echo")).await.unwrap_err();
    assert!(refused.to_string().contains("404"), "{refused}");
}
