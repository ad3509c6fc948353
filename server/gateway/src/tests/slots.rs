//! Slots: never more than there are (A1), none refused while one is free, granted in order.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use wscluster_admin::health::State;

use super::rig::{FakeShard, Rig, Script, settings, until};
use crate::settings::Settings;

#[tokio::test]
async fn never_holds_more_than_capacity_with_several_gateways() {
    let first = FakeShard::start(Script::Serve, 20).await;
    let second = FakeShard::start(Script::Serve, 20).await;
    let short = Settings { queue_timeout: Duration::from_millis(300), ..settings() };
    let rigs: Vec<_> = (0..3).map(|_| Rig::start(&[&first, &second], short.clone())).collect();
    let mut asking = Vec::new();
    for at in 0..60 {
        asking.push(rigs[at % 3].ask().await);
    }
    let (mut open, mut refused) = (Vec::new(), 0);
    for mut wire in asking {
        let answer = wire.answer().await;
        match answer.status {
            101 => open.push(wire),
            503 => {
                assert!(answer.has("X-Wscluster-Reason: no_capacity"), "{answer:?}");
                refused += 1;
            }
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!((open.len(), refused), (40, 20));
    assert_eq!((first.most.load(SeqCst), second.most.load(SeqCst)), (20, 20));
    for rig in &rigs {
        rig.settled().await;
    }
    drop(open);
    until("every slot is free", || first.slots.load(SeqCst) + second.slots.load(SeqCst) == 0).await;
}

#[tokio::test]
async fn one_client_too_many_gets_one_503() {
    let shards = [FakeShard::start(Script::Serve, 7).await, FakeShard::start(Script::Serve, 7).await];
    let short = Settings { queue_timeout: Duration::from_millis(100), ..settings() };
    let rigs = [Rig::start(&[&shards[0], &shards[1]], short.clone()), Rig::start(&[&shards[0], &shards[1]], short)];
    let mut open = Vec::new();
    for at in 0..14 {
        open.push(rigs[at % 2].tunnel().await);
    }
    let answer = rigs[0].ask().await.final_answer().await;
    assert_eq!(answer.status, 503);
    assert!(answer.has("X-Wscluster-Reason: no_capacity"), "{answer:?}");
    let body: serde_json::Value = serde_json::from_slice(&answer.rest).unwrap();
    assert!((100..=5_000).contains(&body["retry_after_ms"].as_u64().unwrap()), "{body}");
    assert_eq!(rigs[0].gateway.metrics.count("unavailable", "no_capacity"), 1);
}

#[tokio::test]
async fn serves_waiting_clients_in_order_of_arrival() {
    let shard = FakeShard::start(Script::Serve, 1).await;
    let rig = Rig::start(&[&shard], settings());
    let mut holder = rig.tunnel().await;
    let mut waiting = Vec::new();
    for at in 1..=3 {
        waiting.push(rig.ask().await);
        until("it waits", || rig.gateway.queue.len() == at).await;
    }
    for (at, mut next) in waiting.into_iter().enumerate() {
        drop(std::mem::replace(&mut holder, rig.connect().await));
        assert_eq!(next.answer().await.status, 101);
        until("the next ones wait on", || rig.gateway.queue.len() == 2 - at).await;
        holder = next;
    }
    assert_eq!(shard.most.load(SeqCst), 1);
}

#[tokio::test]
async fn new_clients_do_not_overtake_waiting_ones() {
    let shard = FakeShard::start(Script::Serve, 1).await;
    let rig = Rig::start(&[&shard], settings());
    // Another client was first, and has been called for the one free slot.
    let first = rig.gateway.queue.join().unwrap();
    rig.gateway.offer_slots();
    let mut second = rig.ask().await;
    until("the second waits", || rig.gateway.queue.len() == 2).await;
    assert_eq!(shard.asked.load(SeqCst), 0);
    drop(first);
    rig.gateway.offer_slots();
    assert_eq!(second.answer().await.status, 101);
}

#[tokio::test]
async fn forgets_a_waiting_client_that_hangs_up() {
    let shard = FakeShard::start(Script::Serve, 1).await;
    let rig = Rig::start(&[&shard], settings());
    let holder = rig.tunnel().await;
    let asked = shard.asked.load(SeqCst);
    let leaving = rig.ask().await;
    until("it waits", || rig.gateway.queue.len() == 1).await;
    let mut staying = rig.ask().await;
    until("both wait", || rig.gateway.queue.len() == 2).await;
    drop(leaving);
    until("it is forgotten", || rig.gateway.queue.len() == 1).await;
    drop(holder);
    assert_eq!(staying.answer().await.status, 101);
    assert!(shard.asked.load(SeqCst) > asked);
    rig.settled().await;
    assert_eq!(rig.gateway.metrics.count("client_gone", "queue"), 1);
}

#[tokio::test]
async fn forgets_a_waiting_client_that_hangs_up_behind_early_bytes() {
    for reset in [false, true] {
        let shard = FakeShard::start(Script::Serve, 1).await;
        let patient = Settings { queue_timeout: Duration::from_mins(10), ..settings() };
        let rig = Rig::start(&[&shard], patient);
        let _holder = rig.tunnel().await;
        let mut leaving = rig.ask().await;
        until("it waits", || rig.gateway.queue.len() == 1).await;
        leaving.send("early").await;
        if reset {
            socket2::SockRef::from(&leaving.0).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(leaving);
        until("it is forgotten", || rig.gateway.queue.is_empty()).await;
        rig.settled().await;
        assert_eq!(rig.gateway.metrics.count("client_gone", "queue"), 1);
    }
}

#[tokio::test]
async fn passes_bytes_that_came_while_the_client_waited() {
    let shard = FakeShard::start(Script::Serve, 1).await;
    let rig = Rig::start(&[&shard], settings());
    let holder = rig.tunnel().await;
    let mut waiting = rig.ask().await;
    until("it waits", || rig.gateway.queue.len() == 1).await;
    waiting.send("early").await;
    // A second client shows that the worker has had a turn since.
    let _next = rig.ask().await;
    until("the next one waits", || rig.gateway.queue.len() == 2).await;
    drop(holder);
    assert_eq!(waiting.answer().await.status, 101);
    assert_eq!(waiting.bytes(5).await, b"early");
}

#[tokio::test]
async fn refuses_at_once_when_the_queue_is_full() {
    let shard = FakeShard::start(Script::Serve, 1).await;
    let rig = Rig::start(&[&shard], Settings { max_waiting: 1, ..settings() });
    let _holder = rig.tunnel().await;
    let _waiting = rig.ask().await;
    until("one waits", || rig.gateway.queue.len() == 1).await;
    let answer = rig.ask().await.final_answer().await;
    assert!(answer.status == 503 && answer.has("X-Wscluster-Reason: queue_full"), "{answer:?}");
}

#[tokio::test]
async fn never_refuses_while_a_slot_was_free_all_the_time() {
    let shard = FakeShard::start(Script::Serve, 5).await;
    let short = Settings { queue_timeout: Duration::from_millis(50), ..settings() };
    let rig = Rig::start(&[&shard], short);
    // The table is wrong, and nothing corrects it while the client waits.
    rig.tell(0, State::Full, 5, 5, "a");
    let known = rig.shard(0).heard_ms();
    until("the news is older than the client", || rig.gateway.table.now_ms() > known).await;
    let mut wire = rig.tunnel().await;
    wire.send("ping").await;
    assert_eq!(wire.bytes(4).await, b"ping");
}

#[tokio::test]
async fn asks_a_shard_of_doubtful_availability_rather_than_refuse() {
    let shard = FakeShard::start(Script::Serve, 5).await;
    let short = Settings { queue_timeout: Duration::from_millis(300), ..settings() };
    let rig = Rig::start(&[&shard], short);
    // It failed often, serves again, and a client waits already.
    for _ in 0..8 {
        rig.shard(0).failed(rig.gateway.table.now_ms());
    }
    let _first = rig.gateway.queue.join().unwrap();
    let mut wire = rig.ask().await;
    until("it waits", || rig.gateway.queue.len() == 2).await;
    rig.tell(0, State::Ready, 0, 5, "a");
    assert_eq!(wire.answer().await.status, 101);
}

#[tokio::test]
async fn waits_for_a_shard_that_is_still_starting() {
    let shard = FakeShard::start(Script::Serve, 5).await;
    let rig = Rig::start(&[&shard], settings());
    rig.tell(0, State::Starting, 0, 5, "a");
    let mut wire = rig.ask().await;
    until("it waits", || rig.gateway.queue.len() == 1).await;
    assert_eq!(shard.asked.load(SeqCst), 0);
    rig.tell(0, State::Ready, 0, 5, "a");
    assert_eq!(wire.answer().await.status, 101);
}

#[tokio::test]
async fn answers_no_shard_if_none_is_ready() {
    let shard = FakeShard::start(Script::Serve, 5).await;
    let rig = Rig::start(&[&shard], Settings { queue_timeout: Duration::from_millis(50), ..settings() });
    rig.tell(0, State::Starting, 0, 5, "a");
    let answer = rig.ask().await.final_answer().await;
    assert!(answer.has("X-Wscluster-Reason: no_shard"), "{answer:?}");
}

#[tokio::test]
async fn spreads_clients_evenly_over_two_gateways_and_three_shards() {
    let mut shards = Vec::new();
    for _ in 0..3 {
        shards.push(FakeShard::start(Script::Serve, 200).await);
    }
    let all: Vec<_> = shards.iter().collect();
    let rigs = [Rig::start(&all, settings()), Rig::start(&all, settings())];
    let mut open = Vec::new();
    for at in 0..300 {
        open.push(rigs[at % 2].tunnel().await);
    }
    let counts: Vec<_> = shards.iter().map(|shard| shard.slots.load(SeqCst)).collect();
    let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    // One at a time, a gateway misses at most what the other did since it last asked that shard.
    assert!(max - min <= 6, "{counts:?}");
}
