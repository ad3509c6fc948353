//! The order of writes, tested on a worker without its event loop, so that the test controls every step.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use tokio::runtime::{Builder, LocalOptions};
use wscluster_protocol::{Draft, Epoch, Partition, Position, Record};
use wscluster_runtime::fds::Permit;

use super::*;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::shared::Shared;

struct Rig {
    worker: Rc<RefCell<Worker>>,
    listener: TcpListener,
    peers: Vec<TcpStream>,
    next: i64,
}

/// Runs `test` in the runtime of a worker.
fn with_worker(test: impl AsyncFnOnce(Rig)) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        let manifest = "apiVersion: wscluster.dev/v1alpha1\nkind: WsCluster\nmetadata: { name: t }\n\
                    spec: { source: { kafka: { topics: [{ name: t, channel: '{key}' }] } } }\n";
        let cluster = wscluster_api::manifest::parse(manifest, std::path::Path::new("test.yaml")).unwrap();
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let shared = Shared::new(Settings::new("s", &cluster.spec), metrics, 1);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let worker = Worker::new(0, shared);
        let partition = Partition { epoch: Epoch(1), number: 0 };
        worker.borrow_mut().apply(&Update::Begin { partition, topic: "t".into(), from: 0, lost: false });
        test(Rig { worker, listener, peers: Vec::new(), next: 0 }).await;
    });
}

impl Rig {
    /// Adds `count` members to `channel`; their keys are consecutive.
    async fn join(&mut self, channel: &str, count: usize) -> Vec<u32> {
        let mut keys = Vec::new();
        for _ in 0..count {
            self.peers.push(TcpStream::connect(self.listener.local_addr().unwrap()).unwrap());
            let (stream, _) = self.listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            stream.writable().await.unwrap();
            let mut worker = self.worker.borrow_mut();
            let slots = &worker.shared.slots;
            let slot = slots.grant(&mut slots.fds().take(Permit::CONNECTION)).unwrap();
            let key = worker.connections.vacant_key() as u32;
            let upgraded = crate::worker::Upgraded {
                stream,
                slot,
                principal: crate::handshake::Principal::default(),
                echo: false,
            };
            worker.add(upgraded, &[], None);
            let membership = worker.channels.join(channel, key, crate::window::Seq::default());
            worker.connections[key as usize].subscriptions.push(membership);
            worker.subscriptions += 1;
            keys.push(key);
        }
        keys
    }

    fn publish(&mut self, channels: &[&str]) {
        let record = |channel: &&str| {
            let position = Position { partition: Partition { epoch: Epoch(1), number: 0 }, offset: self.next };
            self.next += 1;
            let draft = Draft { kind: "t", priority: 0, data: b"\"data\":1" };
            Arc::new(Record::encode((*channel).into(), position, None, now_ms(), draft))
        };
        let records = channels.iter().map(record).collect();
        self.worker.borrow_mut().apply(&Update::Records(records));
    }

    /// Number of due frames of a connection.
    fn due(&self, key: u32) -> u32 {
        let worker = self.worker.borrow();
        worker.outbox.len(worker.connections[key as usize].due)
    }
}

#[test]
fn a_big_channel_does_not_delay_a_small_one() {
    with_worker(async |mut rig| {
        let big = rig.join("big", SMALL + 300).await;
        let small = rig.join("small", 2).await;
        rig.publish(&["big", "big", "small", "big"]);
        assert!(rig.worker.borrow_mut().flush_slice(), "more than a slice is due");
        assert!(small.iter().all(|key| rig.due(*key) == 0), "small goes first, though it came later");
        assert_eq!(big.iter().filter(|key| rig.due(**key) == 0).count(), SLICE);
        // The rest of the big channel does not delay a new record of the small one either.
        rig.publish(&["small"]);
        rig.worker.borrow_mut().flush_slice();
        assert!(small.iter().all(|key| rig.due(*key) == 0));
        while rig.worker.borrow_mut().flush_slice() {}
        assert!(big.iter().all(|key| rig.due(*key) == 0));
        assert_eq!(rig.worker.borrow().due_bytes, 0);
    });
}

#[test]
fn a_member_of_both_moves_up_and_is_written_to_once() {
    with_worker(async |mut rig| {
        let big = rig.join("big", SMALL + 300).await;
        let last = *big.last().unwrap();
        let membership = rig.worker.borrow_mut().channels.join("small", last, crate::window::Seq::default());
        rig.worker.borrow_mut().connections[last as usize].subscriptions.push(membership);
        rig.worker.borrow_mut().subscriptions += 1;
        rig.publish(&["big", "small"]);
        rig.worker.borrow_mut().flush_slice();
        assert_eq!(rig.due(last), 0, "both leave in the turn of the small one");
        let written = rig.worker.borrow().tally.writes;
        assert_eq!(written, SLICE as u64 + 1);
        while rig.worker.borrow_mut().flush_slice() {}
        assert_eq!(rig.worker.borrow().tally.writes, big.len() as u64, "one write a socket");
        assert_eq!(rig.worker.borrow().tally.deliveries, big.len() as u64 + 1);
    });
}

#[test]
fn a_removed_connection_in_the_queue_is_skipped() {
    with_worker(async |mut rig| {
        let keys = rig.join("a", 3).await;
        rig.publish(&["a"]);
        rig.worker.borrow_mut().remove(keys[1]);
        // The key is reused by a connection without due frames.
        let new = rig.join("b", 1).await;
        assert_eq!(new[0], keys[1]);
        while rig.worker.borrow_mut().flush_slice() {}
        assert_eq!(rig.worker.borrow().tally.writes, 2);
        assert_eq!(rig.worker.borrow().due_bytes, 0);
    });
}

#[test]
fn a_gap_that_exceeds_a_queue_disconnects_that_client_only() {
    with_worker(async |mut rig| {
        let slow = rig.join("a", 1).await[0];
        let other = rig.join("c", 1).await[0];
        let mut worker = rig.worker.borrow_mut();
        let membership = worker.channels.join("b", slow, crate::window::Seq::default());
        worker.connections[slow as usize].subscriptions.push(membership);
        worker.subscriptions += 1;
        // Its socket is full, and its queue is a few bytes below the limit.
        let filler = vec![0; 1 << 20];
        while worker.connections[slow as usize].stream.try_write(&filler).is_ok() {}
        let nearly_full = vec![0; worker.shared.settings.max_queue() - 8];
        worker.send(slow, nearly_full.into());
        worker.flush(slow);
        // Every channel gets the gap, also the one whose only member is the slow client.
        let partition = Partition { epoch: Epoch(1), number: 0 };
        worker.apply(&Update::Begin { partition, topic: "t".into(), from: 100, lost: true });
        assert_eq!(worker.connections[slow as usize].close_code, 4100);
        assert_eq!(worker.channels.len(), 1);
        drop(worker);
        assert_eq!(rig.due(other), 1);
    });
}

#[test]
fn stops_waiting_for_more_when_many_bytes_are_due() {
    with_worker(async |mut rig| {
        let key = rig.join("a", 1).await[0];
        let partition = Partition { epoch: Epoch(1), number: 0 };
        let data = format!("\"data\":\"{}\"", "x".repeat(1 << 20));
        {
            let mut worker = rig.worker.borrow_mut();
            let shared = Arc::get_mut(&mut worker.shared).unwrap();
            shared.settings.delivery.coalesce.0 = std::time::Duration::from_hours(1);
            shared.settings.delivery.max_queue_bytes.0 = 1 << 30;
        }
        // One record more than may be due ends the wait of an hour.
        let (feed_in, feed) = mpsc::channel(64);
        for offset in 0..=i64::try_from(MAX_DUE >> 20).unwrap() {
            let position = Position { partition, offset };
            let draft = Draft { kind: "t", priority: 0, data: data.as_bytes() };
            let record = Arc::new(Record::encode("a".into(), position, None, now_ms(), draft));
            feed_in.send(Update::Records(vec![record])).await.unwrap();
        }
        let running = tokio::task::spawn_local(run(Rc::clone(&rig.worker), feed));
        let written = async {
            while rig.worker.borrow().tally.writes == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), written).await.expect("nothing was written");
        assert_eq!(rig.worker.borrow().connections[key as usize].close_code, 1006);
        running.abort();
    });
}

#[test]
fn a_client_that_pings_and_reads_nothing_is_not_read_further() {
    with_worker(async |mut rig| {
        let key = rig.join("a", 1).await[0];
        let mut worker = rig.worker.borrow_mut();
        let filler = vec![0; 1 << 20];
        while worker.connections[key as usize].stream.try_write(&filler).is_ok() {}
        let ping = wscluster_ws::frame::client_frame(wscluster_ws::frame::Opcode::Ping, b"", [0; 4]);
        let cx = std::task::Context::from_waker(std::task::Waker::noop());
        let limit = worker.shared.settings.max_queue();
        let mut pongs = 0;
        while !worker.must_not_read(key, &cx) {
            worker.scratch.borrow_mut()[..ping.len()].copy_from_slice(&ping);
            worker.input(key, ping.len());
            pongs += 1;
            assert!(pongs * 128 <= limit, "{pongs} answers wait, {} bytes", worker.waiting(key));
        }
        assert!(pongs > 0 && worker.waiting(key) < limit / 8);
    });
}
