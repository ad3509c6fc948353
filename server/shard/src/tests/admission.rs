//! Invariants of admission under load: A1 never above capacity, A2 every slot returns once, A3 slots alone decide, A4
//! one counted outcome for each handshake.

use super::*;
use crate::settings::Settings;

fn capacity(capacity: u32) -> impl FnOnce(&mut Settings) {
    move |settings| settings.capacity = capacity
}

#[tokio::test]
async fn grants_100_slots_to_500_simultaneous_clients() {
    let rig = Rig::start(3, capacity(100)).await;
    let addr = rig.server.addr;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..500 {
        tasks.spawn(async move {
            let mut raw = TcpStream::connect(addr).await.unwrap();
            raw.write_all(upgrade(addr, "/ws").as_bytes()).await.unwrap();
            (read_head(&mut raw).await, raw)
        });
    }
    let answers = soon("500 answers", tasks.join_all()).await;
    let (accepted, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(head, _)| head.starts_with("HTTP/1.1 101 "));
    assert_eq!((accepted.len(), refused.len()), (100, 400));
    for (head, _) in &refused {
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(
            head.contains("X-Wscluster-Reason: full\r\n") && head.contains("X-Wscluster-Load: 100/100\r\n"),
            "{head}"
        );
        assert!(head.contains("Retry-After: "), "{head}");
    }
    until("500 outcomes", || rig.metric_sum("wscluster_shard_handshakes_total") == 500.0).await;
    assert_eq!(rig.metric("wscluster_shard_handshakes_total{outcome=\"accepted\"}"), 100.0);
    assert_eq!(rig.metric("wscluster_shard_handshakes_total{outcome=\"full\"}"), 400.0);
    assert_eq!(rig.metric("wscluster_shard_handshake_attempts_total"), 500.0);
    assert_eq!(rig.metric("wscluster_shard_slots_in_use"), 100.0);
    assert_eq!(rig.metric("wscluster_shard_slots"), 100.0);
    drop(accepted);
    rig.until_used(0).await;
}

#[tokio::test]
async fn slot_returns_wherever_in_the_handshake_the_client_leaves() {
    let rig = Rig::start(1, capacity(1)).await;
    let text = upgrade(rig.server.addr, "/ws");
    for (attempt, end) in (0..=text.len()).enumerate() {
        let mut raw = rig.raw().await;
        raw.write_all(&text.as_bytes()[..end]).await.unwrap();
        // Half of them end with a reset, the others normally.
        if attempt % 2 == 0 {
            socket2::SockRef::from(&raw).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(raw);
    }
    let all = text.len() as f64 + 1.0;
    until("all counted", || rig.metric_sum("wscluster_shard_handshakes_total") >= all).await;
    rig.until_used(0).await;
    assert_eq!(rig.metric_sum("wscluster_shard_handshakes_total"), all);
    assert_eq!(rig.metric("wscluster_shard_handshake_attempts_total"), all);
    // The only slot still works.
    let mut client = rig.connect().await;
    assert_eq!(client.subscribe(&["a"]).await["count"], 1);
}

#[tokio::test]
async fn count_stays_exact_while_clients_come_and_go_in_every_way() {
    let mut rig = Rig::start(2, capacity(50)).await;
    let addr = rig.server.addr;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..400_u32 {
        tasks.spawn(async move {
            let mut raw = TcpStream::connect(addr).await.unwrap();
            raw.write_all(upgrade(addr, "/ws").as_bytes()).await.unwrap();
            if number % 5 == 0 {
                return;
            }
            let head = read_head(&mut raw).await;
            if !head.starts_with("HTTP/1.1 101 ") {
                return;
            }
            let masked = wscluster_ws::frame::client_frame;
            let frame = match number % 5 {
                1 => masked(wscluster_ws::frame::Opcode::Close, &1000_u16.to_be_bytes(), [1; 4]),
                2 => masked(
                    wscluster_ws::frame::Opcode::Text,
                    br#"{"type":"subscribe","data":{"channels":["a"]}}"#,
                    [2; 4],
                ),
                3 => bytes::Bytes::from_static(b"garbage that is no frame"),
                _ => {
                    socket2::SockRef::from(&raw).set_linger(Some(Duration::ZERO)).map(|()| bytes::Bytes::new()).unwrap()
                }
            };
            let _ = raw.write_all(&frame).await;
        });
        assert!(rig.used() <= 50);
        if number % 20 == 0 {
            rig.publish("a", json!(number)).await;
        }
    }
    soon("all clients done", tasks.join_all()).await;
    rig.until_used(0).await;
    until("all counted", || rig.metric_sum("wscluster_shard_handshakes_total") == 400.0).await;
    let accepted = rig.metric("wscluster_shard_handshakes_total{outcome=\"accepted\"}");
    until("all ends counted", || rig.metric_sum("wscluster_shard_connection_closes_total") == accepted).await;
    until("no subscription left", || rig.metric("wscluster_shard_subscriptions") == 0.0).await;
    until("nothing queued", || rig.metric("wscluster_shard_client_queue_bytes") == 0.0).await;
}

#[tokio::test]
async fn refuses_while_its_window_is_not_filled() {
    let mut rig = Rig::start_unfilled(2, |_| {});
    let refused = tokio_tungstenite::connect_async(rig.url("/ws")).await.unwrap_err();
    let tokio_tungstenite::tungstenite::Error::Http(response) = refused else { panic!("{refused}") };
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["X-Wscluster-Reason"], "starting");
    let body: Value = serde_json::from_slice(response.body().as_ref().unwrap()).unwrap();
    assert_eq!((&body["error"], &body["reason"]), (&"unavailable".into(), &"starting".into()));
    // One worker alone is not enough.
    rig.feeds[0].send(Update::Filled).await.unwrap();
    assert!(tokio_tungstenite::connect_async(rig.url("/ws")).await.is_err());
    rig.feeds.remove(1).send(Update::Filled).await.unwrap();
    let shared = Arc::clone(&rig.server.shared);
    until("ready", || shared.state() == wscluster_admin::health::State::Ready).await;
    rig.connect().await;
}

#[tokio::test]
async fn an_overloaded_shard_with_free_slots_still_admits() {
    let mut rig = Rig::start(1, capacity(200)).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = rig.connect().await;
        client.subscribe(&["busy"]).await;
        clients.push(client);
    }
    // More than can be written during this test.
    let feed = rig.feeds[0].clone();
    let records: Vec<_> = (0..200).map(|number| rig.record("busy", &json!(number))).collect();
    let load = tokio::spawn(async move { while feed.send(Update::Records(records.clone())).await.is_ok() {} });
    for _ in 0..50 {
        clients.push(rig.connect().await);
    }
    let accepted = "wscluster_shard_handshakes_total{outcome=\"accepted\"}";
    until("100 accepted", || rig.metric(accepted) == 100.0).await;
    load.abort();
}

#[tokio::test]
async fn allows_only_the_origins_of_the_manifest() {
    let rig = Rig::start(1, |settings| settings.allowed_origins = vec!["https://example.com".into()]).await;
    for (origin, status) in [("https://example.com", "101"), ("https://evil.example", "403")] {
        let mut raw = rig.raw().await;
        let text = upgrade(rig.server.addr, "/ws").replace("Upgrade: w", &format!("Origin: {origin}\r\nUpgrade: w"));
        raw.write_all(text.as_bytes()).await.unwrap();
        let head = read_head(&mut raw).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{origin}: {head}");
    }
}
