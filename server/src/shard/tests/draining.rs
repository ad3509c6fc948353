//! Drains: who is closed how, how fast, and how it ends.

use wscluster_api::spec::{Drain, RetryAfter};
use wscluster_api::units::Span;

use super::*;
use crate::health::State;

fn drain(evict_rate: u32, deadline: Span) -> Drain {
    Drain { evict_rate, deadline, retry_after: RetryAfter { min: Span::millis(100), max: Span::millis(900) } }
}

#[tokio::test]
async fn closes_everybody_with_a_hint_of_their_own() {
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
    assert_eq!(rig.metric("wscluster_shard_closes_total{code=\"1012\"}"), 20.0);
    soon("the drain's end", crate::shard::drain::is_over(&rig.server.shared, Duration::from_mins(1))).await;
}

#[tokio::test]
async fn keeps_to_its_rate_and_can_be_taken_back() {
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
        // Not in order: wait for the first five, whoever they are.
        if rig.metric("wscluster_shard_evictions_total") >= 5.0 {
            break;
        }
        let _ = tokio::time::timeout(Duration::from_millis(30), client.0.next()).await;
    }
    until("five evictions", || rig.metric("wscluster_shard_evictions_total") >= 5.0).await;
    // Half the mean distance is the shortest: five cannot be gone sooner.
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
