//! Drains: which connections are closed, with which code, at which rate, and how the drain ends.

use wscluster_admin::Access;
use wscluster_admin::client::post_json;
use wscluster_admin::drain::evict_route;
use wscluster_admin::health::{KafkaCheck, State};
use wscluster_api::spec::{Drain, RetryAfter};
use wscluster_api::units::Span;
use wscluster_runtime::drain::EvictRequest;
use wscluster_runtime::shutdown::{DrainEnd, StopReason, drain_to_the_end};

use super::*;
use crate::admin::Admin;

fn drain(evict_rate: u32, deadline: Span) -> Drain {
    Drain { evict_rate, deadline, retry_after: RetryAfter { min: Span::millis(100), max: Span::millis(900) } }
}

#[tokio::test]
async fn closes_each_client_with_a_hint_of_its_own() {
    let rig = Rig::start(2, |_| {}).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(rig.connect().await);
    }
    rig.server.drains.begin(drain(1_000, Span::secs(60))).unwrap();
    let mut hints = std::collections::HashSet::new();
    for client in &mut clients {
        let (code, reason) = client.closed().await;
        assert_eq!(code, 1012);
        let hint = serde_json::from_str::<Value>(&reason).unwrap()["retry_after_ms"].as_u64().unwrap();
        assert!((100..=900).contains(&hint), "{reason}");
        hints.insert(hint);
    }
    assert!(hints.len() > 10, "{hints:?}");
    rig.until_used(0).await;
    assert_eq!(rig.metric("wscluster_shard_evictions_total"), 20.0);
    assert_eq!(rig.metric("wscluster_shard_connection_closes_total{code=\"1012\"}"), 20.0);
    let slots = &rig.server.shared.slots;
    let last = drain_to_the_end(&rig.server.drains, StopReason::Signal, Duration::from_mins(1), || slots.used() == 0);
    assert_eq!(soon("the drain's end", last).await.unwrap(), DrainEnd::Over);
}

#[tokio::test]
async fn keeps_its_rate_and_can_be_cancelled() {
    let rig = Rig::start(1, |_| {}).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(rig.connect().await);
    }
    let start = tokio::time::Instant::now();
    rig.server.drains.begin(drain(50, Span::secs(60))).unwrap();
    assert_eq!(rig.server.shared.state(), State::Draining);
    let refused = tokio_tungstenite::connect_async(rig.url("/ws")).await.unwrap_err();
    assert!(refused.to_string().contains("503"), "{refused}");
    for client in &mut clients[..] {
        // The order is random: wait for any five.
        if rig.metric("wscluster_shard_evictions_total") >= 5.0 {
            break;
        }
        let _ = tokio::time::timeout(Duration::from_millis(30), client.0.next()).await;
    }
    until("five evictions", || rig.metric("wscluster_shard_evictions_total") >= 5.0).await;
    // Evictions are at least half the mean interval apart, so five take at least this long.
    assert!(start.elapsed() >= Duration::from_millis(5 * 10), "{:?}", start.elapsed());
    rig.server.drains.cancel().unwrap();
    assert_eq!(rig.server.shared.state(), State::Ready);
    let mut client = rig.connect().await;
    assert_eq!(client.subscribe(&["a"]).await["count"], 1);
}

#[tokio::test]
async fn closes_all_that_is_left_at_the_deadline() {
    let rig = Rig::start(2, |_| {}).await;
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(rig.connect().await);
    }
    rig.server.drains.begin(drain(1, Span::millis(50))).unwrap();
    for client in &mut clients {
        assert_eq!(client.closed().await.0, 1012);
    }
    rig.until_used(0).await;
}

#[tokio::test]
async fn delivers_what_is_due_before_the_close() {
    let mut rig = Rig::start(1, |settings| settings.delivery.coalesce = Span::secs(3)).await;
    let mut client = rig.connect().await;
    client.subscribe(&["a"]).await;
    rig.publish("a", json!("last words")).await;
    until("it is due", || rig.metric("wscluster_shard_records_total") >= 1.0).await;
    rig.server.drains.begin(drain(1_000, Span::secs(60))).unwrap();
    assert_eq!(client.json().await["data"], "last words");
    assert_eq!(client.closed().await.0, 1012);
}

#[tokio::test]
async fn the_last_drain_of_a_process_is_final() {
    let rig = Rig::start(1, |_| {}).await;
    rig.server.drains.begin_last(drain(1, Span::secs(60)));
    assert!(rig.server.drains.cancel().is_err());
    assert!(rig.server.drains.begin(drain(1, Span::secs(600))).is_err());
    assert_eq!(rig.server.shared.state(), State::Draining);
}

#[tokio::test]
async fn evicts_the_requested_number_and_still_accepts_upgrades() {
    let rig = Rig::start(2, |_| {}).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(rig.connect().await);
    }
    let part = Admin::new(Arc::clone(&rig.server.shared), Box::new(KafkaCheck::default));
    let more = evict_route(rig.server.drains.clone());
    let metrics = Arc::new(Registry::default());
    let admin = wscluster_admin::start(([127, 0, 0, 1], 0).into(), Arc::new(part), metrics, more, &Access::default());
    let admin = admin.unwrap().to_string();
    let ask = async |body: Value| post_json(&admin, "/evict", &body, PATIENCE).await;
    ask(json!({ "count": 7, "evictRate": 1_000 })).await.unwrap();
    until("seven evictions", || rig.metric("wscluster_shard_evictions_total") >= 7.0).await;
    assert_eq!(rig.server.shared.state(), State::Ready);
    clients.push(rig.connect().await);
    let mut closed = 0;
    for client in &mut clients {
        // Clients that stay receive nothing unasked.
        client.0.send(Message::text(json!({ "type": "heartbeat" }).to_string())).await.ok();
        match soon("an answer", client.0.next()).await {
            Some(Ok(Message::Close(Some(frame)))) => {
                assert_eq!(u16::from(frame.code), 1012);
                assert!(frame.reason.contains("retry_after_ms"), "{}", frame.reason);
                closed += 1;
            }
            other => assert!(matches!(other, Some(Ok(Message::Text(_)))), "{other:?}"),
        }
    }
    assert_eq!(closed, 7);
    rig.until_used(14).await;
    assert_eq!(rig.metric("wscluster_shard_evictions_total"), 7.0);
    assert!(ask(json!({ "count": 0 })).await.unwrap_err().to_string().contains("400"));
    rig.server.drains.begin_last(drain(1, Span::secs(60)));
    assert!(ask(json!({ "count": 1 })).await.unwrap_err().to_string().contains("409"));
}

#[tokio::test]
async fn evicts_new_connections_last() {
    let rig = Rig::start(1, |_| {}).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(rig.connect().await);
    }
    // The shard measures time in these ticks.
    let ticks = || rig.metric("wscluster_shard_worker_loop_lag_seconds_count");
    let came = ticks();
    let settled = (Drain::SETTLE.as_millis() / 100) as f64 + 1.0;
    until("they have settled", || ticks() >= came + settled).await;
    for _ in 0..30 {
        clients.push(rig.connect().await);
    }
    let some = |count| EvictRequest { count, evict_rate: 1_000, retry_after: RetryAfter::default() };
    rig.server.drains.evict(some(10)).unwrap();
    for client in &mut clients[..10] {
        assert_eq!(client.closed().await.0, 1012);
    }
    rig.until_used(30).await;
    // When no other connections are left, these are evicted too.
    rig.server.drains.evict(some(30)).unwrap();
    for client in &mut clients[10..] {
        assert_eq!(client.closed().await.0, 1012);
    }
    rig.until_used(0).await;
}
