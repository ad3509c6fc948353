//! Faults of shards: another shard is tried, and the client is refused only if there is none.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use wscluster_admin::health::{State, Status, ViewState};
use wscluster_routing::backend::Availability;

use super::rig::{FakeShard, Rig, Script, settings};
use crate::settings::Settings;
use crate::status::GatewayStatus;

/// Answers of broken shards, and the cause under which each is counted.
const BROKEN: [(Script, &str); 10] = [
    (Script::Say("HTTP/1.1 101 Switching Protocols\r\nUpgr"), "closed"),
    (Script::Say(""), "closed"),
    (
        Script::Say(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: \
             AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        ),
        "bad_accept_key",
    ),
    (Script::Say("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"), "bad_upgrade"),
    (Script::Say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "status_2xx"),
    (Script::Say("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"), "status_5xx"),
    (Script::Say("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), "status_5xx"),
    (Script::Say("SSH-2.0-OpenSSH_9\r\n"), "malformed_answer"),
    (Script::Say("HTTP/1.1 503 No\r\nX-Wscluster-Reason: full\r\nX-Wscluster-Load: 0/100\r\n\r\n"), "contradiction"),
    (Script::Say("HTTP/1.1 503 No\r\nX-Wscluster-Reason: full\r\nX-Wscluster-Load: 100/100\r\n\r\n"), "full"),
];

#[tokio::test]
async fn tries_another_shard_after_each_kind_of_failure() {
    for (script, cause) in BROKEN {
        // The broken shard is empty as far as the table knows, so it is asked first.
        let broken = FakeShard::start(script, 100).await;
        let good = FakeShard::start(Script::Serve, 100).await;
        let rig = Rig::start(&[&broken, &good], settings());
        rig.tell(1, State::Ready, 50, 100, "a");
        let mut wire = rig.tunnel().await;
        wire.send("ping").await;
        assert_eq!(wire.bytes(4).await, b"ping");
        assert_eq!((broken.asked.load(SeqCst), good.asked.load(SeqCst)), (1, 1), "{script:?}");
        assert_eq!(rig.gateway.metrics.retries(cause), 1, "{script:?} {}", rig.metrics());
        rig.settled().await;
        assert_eq!(rig.shard(0).load().in_flight, 0);
    }
}

#[tokio::test]
async fn tries_another_shard_when_one_refuses_the_connection_or_hangs() {
    let dead = FakeShard::start(Script::Serve, 100).await;
    let hanging = FakeShard::start(Script::Hang, 100).await;
    let good = FakeShard::start(Script::Serve, 100).await;
    let quick = Settings { shard_timeout: Duration::from_millis(50), ..settings() };
    let rig = Rig::start(&[&dead, &hanging, &good], quick);
    // Nothing listens on port 1 of loopback.
    let mut members: Vec<_> = rig.gateway.table.shards().iter().map(|shard| shard.member().clone()).collect();
    members[0].ws.set_port(1);
    rig.gateway.table.set(&members);
    rig.tell(0, State::Ready, 0, 100, "a");
    rig.tell(1, State::Ready, 10, 100, "a");
    rig.tell(2, State::Ready, 99, 100, "a");
    let _wire = rig.tunnel().await;
    rig.settled().await;
    let retries = |cause| rig.gateway.metrics.retries(cause);
    // Two choices may skip one of the two broken ones, never both: the good one is the fullest.
    assert!(retries("dial") + retries("timeout") >= 1, "{}", rig.metrics());
    assert_eq!(good.asked.load(SeqCst), 1);
}

#[tokio::test]
async fn avoids_a_failing_shard_only_for_a_while() {
    let broken = FakeShard::start(Script::Say(""), 100).await;
    let good = FakeShard::start(Script::Serve, 100).await;
    let rig = Rig::start(&[&broken, &good], settings());
    rig.tell(1, State::Ready, 50, 100, "a");
    let mut tunnels = vec![rig.tunnel().await];
    // It is repaired at once, and is asked again when the penalty is over.
    *broken.script.lock().unwrap() = Script::Serve;
    while broken.slots.load(SeqCst) == 0 {
        tunnels.push(rig.tunnel().await);
        assert!(tunnels.len() < 50, "never asked again");
        rig.tell(1, State::Ready, 50, 100, "a");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(tunnels.len() > 2, "asked again at once");
}

#[tokio::test]
async fn answers_503_when_every_shard_is_broken() {
    let quick = Settings { queue_timeout: Duration::from_millis(50), ..settings() };
    for (script, _) in BROKEN {
        let broken = FakeShard::start(script, 100).await;
        let rig = Rig::start(&[&broken], quick.clone());
        let answer = rig.ask().await.final_answer().await;
        assert_eq!(answer.status, 503, "{script:?} {answer:?}");
        // A shard that contradicts itself must not be asked repeatedly.
        assert!(broken.asked.load(SeqCst) <= 3, "{script:?} was asked {} times", broken.asked.load(SeqCst));
        rig.settled().await;
    }
}

#[tokio::test]
async fn gives_up_at_the_deadline_of_the_handshake() {
    let hanging = FakeShard::start(Script::Hang, 100).await;
    let deadline = Duration::from_millis(80);
    let rig = Rig::start(&[&hanging], Settings { handshake_timeout: deadline, ..settings() });
    let answer = rig.ask().await.final_answer().await;
    assert!(answer.has("X-Wscluster-Reason: timeout"), "{answer:?}");
    rig.settled().await;
}

#[tokio::test]
async fn relays_a_first_frame_that_arrived_with_the_101() {
    let shard = FakeShard::start(Script::ServeAndSpeak, 9).await;
    let rig = Rig::start(&[&shard], settings());
    let mut wire = rig.ask().await;
    let mut answer = wire.answer().await;
    assert_eq!(answer.status, 101);
    if answer.rest.is_empty() {
        answer.rest = wire.bytes(2).await;
    }
    assert_eq!(answer.rest, b"hi");
}

#[tokio::test]
async fn relays_a_final_answer_and_closes() {
    const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nX-Why: path\r\nX-Wscluster-Load: 1/2\r\nConnection: \
                             close\r\nContent-Length: 4\r\n\r\nnope";
    let shard = FakeShard::start(Script::Say(NOT_FOUND), 9).await;
    let rig = Rig::start(&[&shard], settings());
    let answer = rig.ask().await.final_answer().await;
    assert_eq!((answer.status, &answer.rest[..]), (404, &b"nope"[..]));
    assert!(answer.has("X-Why: path") && answer.has("Connection: close"), "{answer:?}");
    assert!(!answer.head.contains("X-Wscluster"), "{answer:?}");
    assert_eq!(shard.asked.load(SeqCst), 1);
    rig.settled().await;
    assert_eq!(rig.gateway.metrics.count("relayed", "404"), 1);
}

#[tokio::test]
async fn treats_a_shard_without_descriptors_as_full() {
    let short = "HTTP/1.1 503 No\r\nX-Wscluster-Reason: fd_limit\r\nX-Wscluster-Load: 3/100\r\n\r\n";
    let short = FakeShard::start(Script::Say(short), 100).await;
    let good = FakeShard::start(Script::Serve, 100).await;
    let rig = Rig::start(&[&short, &good], settings());
    while short.asked.load(SeqCst) == 0 {
        drop(rig.tunnel().await);
    }
    let _tunnel = rig.tunnel().await;
    let load = rig.shard(0).load();
    assert_eq!((load.connections, load.capacity), (3, 3));
    assert_eq!(short.asked.load(SeqCst), 1, "it was asked again");
}

#[tokio::test]
async fn learns_the_state_of_shards_from_their_refusals() {
    let draining = "HTTP/1.1 503 No\r\nX-Wscluster-Reason: draining\r\nX-Wscluster-Load: 3/100\r\n\r\n";
    let leaving = FakeShard::start(Script::Say(draining), 100).await;
    let good = FakeShard::start(Script::Serve, 100).await;
    let rig = Rig::start(&[&leaving, &good], settings());
    rig.tell(1, State::Ready, 50, 100, "a");
    let _first = rig.tunnel().await;
    let _second = rig.tunnel().await;
    assert_eq!(leaving.asked.load(SeqCst), 1);
    assert_eq!(rig.shard(0).view(rig.gateway.table.now_ms()).state, ViewState::Draining);
}

#[tokio::test]
async fn a_want_of_local_ports_is_no_fault_of_the_shard() {
    let shard = FakeShard::start(Script::Serve, 100).await;
    let settings = Settings {
        // There is no port at an address of another machine.
        source_addresses: vec!["192.0.2.1".parse().unwrap()],
        queue_timeout: Duration::from_mins(10),
        ..settings()
    };
    let rig = Rig::start(&[&shard], settings);
    let status = GatewayStatus::new(Arc::clone(&rig.gateway));
    assert_eq!(status.report().status, Status::Healthy);
    for _ in 0..3 {
        let answer = rig.ask().await.final_answer().await;
        assert!(answer.status == 503 && answer.has("X-Wscluster-Reason: port_limit"), "{answer:?}");
        assert!(String::from_utf8_lossy(&answer.rest).contains("local ports"), "{answer:?}");
    }
    rig.settled().await;
    assert_eq!(rig.gateway.metrics.count("unavailable", "port_limit"), 3);
    assert_eq!(rig.gateway.metrics.retries("port_limit"), 3);
    assert_eq!(rig.shard(0).availability(rig.gateway.table.now_ms()), Availability::Available);
    let report = status.report();
    assert_eq!(report.status, Status::Degraded);
    assert!(report.reason.is_some_and(|reason| reason.contains("local ports")));
}
