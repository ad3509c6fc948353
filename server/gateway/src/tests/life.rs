//! Tunnels and processes over time: half-closes, stalled readers, dead and replaced shards, limits, the end.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use wscluster_runtime::fds::Budget;
use wscluster_ws::frame::{Opcode, client_frame};

use super::rig::{FakeShard, Rig, Script, settings, until};
use crate::dial::BUFFER;
use crate::settings::Settings;
use crate::stage::Stage;
use crate::worker_handle::WorkerCommand;

#[tokio::test]
async fn passes_the_end_of_a_client_and_the_answer_to_it() {
    let shard = FakeShard::start(Script::Serve, 9).await;
    let rig = Rig::start(&[&shard], settings());
    let mut wire = rig.tunnel().await;
    let last_words = client_frame(Opcode::Text, b"last words", [1, 2, 3, 4]);
    wire.0.write_all(&last_words).await.unwrap();
    wire.0.shutdown().await.unwrap();
    // The shard echoes the Close in the client's name too.
    assert!(wire.until_end().await.starts_with(&last_words));
    until("the tunnel has ended", || rig.gateway.is_idle() && shard.slots.load(SeqCst) == 0).await;
}

/// A gateway's socket, as the kernel lists it.
struct ListedSocket {
    state: String,
    unread: usize,
}

/// The sockets that are connected to `shard`.
fn sockets_to(shard: &FakeShard) -> Vec<ListedSocket> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", shard.ws.port());
    let socket = |line: &str| {
        let mut fields = line.split_whitespace().skip(2);
        let (remote, state, queues) = (fields.next()?, fields.next()?, fields.next()?);
        let unread = usize::from_str_radix(queues.split_once(':')?.1, 16).ok()?;
        remote.ends_with(&port).then(|| ListedSocket { state: state.to_owned(), unread })
    };
    table.lines().filter_map(socket).collect()
}

/// Connections to `shard` that have ended and keep their port.
fn kept_ports(shard: &FakeShard) -> usize {
    const TIME_WAIT: &str = "06";
    sockets_to(shard).iter().filter(|socket| socket.state == TIME_WAIT).count()
}

#[tokio::test]
async fn keeps_no_port_of_a_connection_that_its_client_has_ended() {
    let shard = FakeShard::start(Script::Serve, 9).await;
    let rig = Rig::start(&[&shard], settings());
    let question = client_frame(Opcode::Text, b"question", [1, 2, 3, 4]);
    for sent in [&b""[..], &question, &question[..3]] {
        for is_reset in [false, true] {
            let mut wire = rig.tunnel().await;
            wire.0.write_all(sent).await.unwrap();
            if is_reset {
                socket2::SockRef::from(&wire.0).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(wire);
            until("the tunnel has ended", || rig.gateway.is_idle() && shard.slots.load(SeqCst) == 0).await;
            assert_eq!(kept_ports(&shard), 0, "{sent:?} {is_reset}");
        }
    }
    rig.settled().await;
}

#[tokio::test]
async fn keeps_no_port_of_an_attempt_that_was_refused_or_abandoned() {
    let full = "HTTP/1.1 503 No\r\nX-Wscluster-Reason: full\r\nX-Wscluster-Load: 9/9\r\nContent-Length: 0\r\n\r\n";
    for script in [Script::SayAndWait(full), Script::Hang] {
        let shard = FakeShard::start(script, 9).await;
        let quick = Settings { shard_timeout: Duration::from_millis(50), queue_timeout: Duration::ZERO, ..settings() };
        let rig = Rig::start(&[&shard], quick);
        assert_eq!(rig.ask().await.final_answer().await.status, 503);
        until("the shard is left", || shard.open.load(SeqCst) == 0).await;
        assert_eq!(kept_ports(&shard), 0, "{script:?}");
        rig.settled().await;
    }
}

#[tokio::test]
async fn ends_the_tunnel_at_once_when_its_shard_dies() {
    let shard = FakeShard::start(Script::ServeAndDie, 9).await;
    let rig = Rig::start(&[&shard], settings());
    let mut wire = rig.tunnel().await;
    assert_eq!(wire.until_end().await, b"");
}

#[tokio::test]
async fn stops_reading_from_a_shard_whose_client_does_not_read() {
    let shard = FakeShard::start(Script::Flood, 9).await;
    let rig = Rig::start(&[&shard], settings());
    let mut wire = rig.tunnel().await;
    // The kernel enlarges the buffers of a connection that is fast.
    wire.bytes(64 << 20).await;
    let stalled = |count| format!("wscluster_gateway_stalled_tunnels{{direction=\"to_client\"}} {count}\n");
    // The kernel's buffers fill up; then not one byte moves in 200 ms.
    let (mut last, mut same) = (0, 0);
    until("the flood stands still", || {
        let now = shard.flooded.load(SeqCst);
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        same > 200
    })
    .await;
    let relayed = rig.gateway.relayed().1;
    assert!(u64::from(last) > relayed, "the gateway read all of it: {last} of {relayed}");
    let unread: usize = sockets_to(&shard).iter().map(|socket| socket.unread).sum();
    assert!(unread > 0 && unread <= 2 * BUFFER, "the gateway's kernel holds {unread} bytes");
    assert!(rig.metrics().contains(&stalled(1)), "{}", rig.metrics());
    drop(wire);
    until("the slot is free", || shard.slots.load(SeqCst) == 0).await;
    until("the tunnel has ended", || rig.metrics().contains(&stalled(0))).await;
}

#[tokio::test]
async fn ends_the_tunnels_of_a_shard_that_was_replaced() {
    let shard = FakeShard::start(Script::Serve, 9).await;
    let rig = Rig::start(&[&shard], settings());
    let mut old = rig.tunnel().await;
    let seen = rig.gateway.table.now_ms();
    until("time has passed", || rig.gateway.table.now_ms() > seen + 2).await;
    let replaced = rig.gateway.table.now_ms();
    let mut new = rig.tunnel().await;
    rig.gateway.command_all(&WorkerCommand::EndTunnels(rig.shard(0).id(), replaced));
    assert_eq!(old.until_end().await, b"");
    new.send("still here").await;
    assert_eq!(new.bytes(10).await, b"still here");
    until("one is left", || rig.gateway.tunnels.load(SeqCst) == 1).await;
}

#[tokio::test]
async fn refuses_at_the_limit_of_open_files_and_keeps_open_tunnels() {
    let shard = FakeShard::start(Script::Serve, 9).await;
    // Room for one tunnel beside the reserve and the polls of one shard.
    let rig = Rig::with_fds(&[&shard], settings(), Budget::new(40, 26));
    let mut first = rig.tunnel().await;
    let answer = rig.ask().await.final_answer().await;
    assert!(answer.status == 503 && answer.has("X-Wscluster-Reason: fd_limit"), "{answer:?}");
    first.send("still here").await;
    assert_eq!(first.bytes(10).await, b"still here");
    drop(first);
    until("its descriptors are back", || rig.gateway.is_idle()).await;
    let _second = rig.tunnel().await;
    rig.settled().await;
}

#[tokio::test]
async fn silent_clients_make_room_for_refusals_at_the_limit_of_open_files() {
    let shard = FakeShard::start(Script::Serve, 9).await;
    // Room for one tunnel, and for five clients that are refused at a time.
    let rig = Rig::with_fds(&[&shard], settings(), Budget::new(40, 26));
    let _tunnel = rig.tunnel().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut wire = rig.connect().await;
        wire.send("GET ").await;
        silent.push(wire);
    }
    until("all are accepted", || rig.gateway.metrics.totals().0 == 21).await;
    for _ in 0..10 {
        let answer = rig.ask().await.final_answer().await;
        assert!(answer.status == 503 && answer.has("X-Wscluster-Reason: fd_limit"), "{answer:?}");
    }
    drop(silent);
    rig.settled().await;
    assert!(rig.gateway.metrics.count("unavailable", "fd_limit") >= 25, "{}", rig.metrics());
}

#[tokio::test]
async fn drains_without_harm_to_open_tunnels() {
    let shard = FakeShard::start(Script::Serve, 1).await;
    let rig = Rig::start(&[&shard], settings());
    let mut open = rig.tunnel().await;
    let mut waiting = rig.ask().await;
    until("one waits", || rig.gateway.queue.len() == 1).await;
    rig.gateway.enter(Stage::NotReady);
    rig.gateway.enter(Stage::Draining);
    assert!(waiting.final_answer().await.has("X-Wscluster-Reason: draining"));
    open.send("still here").await;
    assert_eq!(open.bytes(10).await, b"still here");
    let refused = async {
        while tokio::net::TcpStream::connect(rig.ws).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refused).await.expect("the listener stayed open");
    assert!(!rig.gateway.is_idle());
    rig.gateway.enter(Stage::Closing);
    assert_eq!(open.until_end().await, b"");
}
