//! Drains: what load balancers, new clients and connected ones see, how fast, and how it is taken back or ended.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wscluster_admin::AdminPart as _;
use wscluster_admin::health::State;
use wscluster_api::spec::{Drain, RetryAfter};
use wscluster_api::units::Span;
use wscluster_runtime::drain::{Drains, Holds as _};

use super::rig::{FakeShard, Rig, Script, Wire, settings, until};
use crate::gateway::Gateway;
use crate::metrics::Eviction;
use crate::settings::Settings;
use crate::stage::Stage;
use crate::status::GatewayStatus;

fn drain(evict_rate: u32, deadline: Span) -> Drain {
    Drain { evict_rate, deadline, retry_after: RetryAfter { min: Span::millis(100), max: Span::millis(900) } }
}

const LONG: Span = Span::secs(600);

fn drains(rig: &Rig) -> Drains<Gateway> {
    let (drains, draining) = Drains::new(Arc::clone(&rig.gateway), Drain::default());
    tokio::spawn(draining);
    drains
}

async fn tunnels(rig: &Rig, count: usize) -> Vec<Wire> {
    let mut wires = Vec::new();
    for _ in 0..count {
        wires.push(rig.tunnel().await);
    }
    wires
}

/// The hint of the Close, which is all that the client receives until the end.
async fn hint(wire: &mut Wire) -> u64 {
    let bytes = wire.until_end().await;
    assert_eq!((bytes[0], &bytes[2..4]), (0x88, &[0x03, 0xf4][..]), "{bytes:?}");
    let reason: serde_json::Value = serde_json::from_slice(&bytes[4..]).unwrap();
    reason["retry_after_ms"].as_u64().unwrap()
}

#[tokio::test]
async fn closes_every_client_with_its_own_retry_hint() {
    let shard = FakeShard::start(Script::Serve, 100).await;
    let rig = Rig::start(&[&shard], settings());
    let mut wires = tunnels(&rig, 20).await;
    let drains = drains(&rig);
    drains.begin_last(drain(1_000, LONG));
    let mut hints = HashSet::new();
    for wire in &mut wires {
        let hint = hint(wire).await;
        assert!((100..=900).contains(&hint), "{hint}");
        hints.insert(hint);
    }
    assert!(hints.len() > 10, "{hints:?}");
    // The shard's slots are free although no client has ended yet.
    until("every slot is free", || shard.slots.load(std::sync::atomic::Ordering::SeqCst) == 0).await;
    drop(wires);
    until("nothing is left", || rig.gateway.is_drained()).await;
    assert_eq!(rig.gateway.metrics.evictions(Eviction::Closed), 20);
    assert!(rig.metrics().contains("wscluster_gateway_evictions_total{outcome=\"closed\"} 20\n"), "{}", rig.metrics());
    rig.settled().await;
}

#[tokio::test]
async fn is_not_ready_at_once_but_serves_until_the_lag_is_over() {
    let shard = FakeShard::start(Script::Serve, 100).await;
    let rig = Rig::start(&[&shard], Settings { drain_lag: Duration::from_mins(10), ..settings() });
    let part = GatewayStatus::new(Arc::clone(&rig.gateway));
    assert_eq!((part.ready(), part.report().state), (Ok(()), State::Ready));
    let mut early = rig.tunnel().await;
    let drains = drains(&rig);
    drains.begin(drain(1_000, LONG)).unwrap();
    assert_eq!((part.ready(), part.report().state), (Err("draining".to_owned()), State::Draining));
    let mut late = rig.tunnel().await;
    for wire in [&mut early, &mut late] {
        wire.send("still here").await;
        assert_eq!(wire.bytes(10).await, b"still here");
    }
    drains.cancel().unwrap();
    assert_eq!(part.ready(), Ok(()));
}

#[tokio::test]
async fn keeps_to_its_rate_and_can_be_cancelled() {
    let shard = FakeShard::start(Script::Serve, 100).await;
    let rig = Rig::start(&[&shard], settings());
    let wires = tunnels(&rig, 40).await;
    let began = Instant::now();
    let drains = drains(&rig);
    drains.begin(drain(50, LONG)).unwrap();
    until("it refuses", || rig.gateway.stage() == Stage::Refusing).await;
    let answer = rig.ask().await.final_answer().await;
    assert!(answer.status == 503 && answer.has("X-Wscluster-Reason: draining"), "{answer:?}");
    until("ten have gone", || rig.gateway.open()[0] <= 30).await;
    // Each eviction has its own fiftieth of a second; the first may come after half of that, and one may be early.
    assert!(began.elapsed() >= Duration::from_millis(8 * 20), "{:?}", began.elapsed());
    drains.cancel().unwrap();
    let left = rig.gateway.open()[0];
    let _new = rig.tunnel().await;
    drop(wires);
    until("only the new one is left", || rig.gateway.tunnels.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    assert_eq!(rig.gateway.open(), [1]);
    let evicted = rig.gateway.metrics.evictions(Eviction::Closed) + rig.gateway.metrics.evictions(Eviction::Left);
    assert!(evicted <= 41 - u64::from(left), "{evicted} were moved after the drain was cancelled with {left} open");
}

#[tokio::test]
async fn closes_what_the_deadline_leaves() {
    let shard = FakeShard::start(Script::Serve, 100).await;
    let rig = Rig::start(&[&shard], settings());
    let mut wires = tunnels(&rig, 30).await;
    let drains = drains(&rig);
    drains.begin_last(drain(1, Span::millis(50)));
    for wire in &mut wires {
        hint(wire).await;
    }
    drop(wires);
    until("nothing is left", || rig.gateway.is_drained()).await;
}

#[tokio::test]
async fn moves_a_client_whose_handshake_ends_during_the_drain() {
    let shard = FakeShard::start(Script::Serve, 100).await;
    let rig = Rig::start(&[&shard], settings());
    let mut late = rig.connect().await;
    late.send("GET /ws HTTP/1.1\r\n").await;
    until("it was accepted", || rig.gateway.metrics.totals().0 == 1).await;
    let drains = drains(&rig);
    drains.begin_last(drain(1_000, LONG));
    until("the listener is closed", || rig.gateway.listening.load(std::sync::atomic::Ordering::SeqCst) == 0).await;
    assert!(!rig.gateway.is_drained());
    late.send(super::rig::good("").strip_prefix("GET /ws HTTP/1.1\r\n").unwrap()).await;
    assert_eq!(late.answer().await.status, 101);
    hint(&mut late).await;
    drop(late);
    until("nothing is left", || rig.gateway.is_drained()).await;
    rig.settled().await;
}

#[tokio::test]
async fn refuses_clients_that_wait_for_a_slot() {
    let shard = FakeShard::start(Script::Serve, 1).await;
    let rig = Rig::start(&[&shard], settings());
    let _holder = rig.tunnel().await;
    let mut waiting = rig.ask().await;
    until("one waits", || rig.gateway.queue.len() == 1).await;
    let drains = drains(&rig);
    drains.begin(drain(1, LONG)).unwrap();
    assert!(waiting.final_answer().await.has("X-Wscluster-Reason: draining"));
}
