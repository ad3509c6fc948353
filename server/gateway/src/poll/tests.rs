//! Polling: loads, replaced shards, and shards that have fallen silent.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use wscluster_admin::Access;
use wscluster_admin::health::State;
use wscluster_routing::backend::Availability;
use wscluster_routing::flow::FlowBytes;
use wscluster_routing::member::Member;
use wscluster_runtime::fds::Budget;

use super::*;
use crate::tests::{ANY, budget, health, settings, until};

struct FakeAdmin(Mutex<ShardHealth>);

impl wscluster_admin::AdminPart for FakeAdmin {
    fn health(&self) -> serde_json::Value {
        serde_json::to_value(&*self.0.lock().unwrap()).unwrap()
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

fn gateway(admin: std::net::SocketAddr) -> Arc<Gateway> {
    let gateway = Gateway::new(settings(), budget());
    gateway.table.set(&[Member { name: "s".to_owned(), ws: ANY, admin }]);
    gateway
}

#[tokio::test]
async fn learns_loads_and_notices_a_replaced_shard() {
    let part = Arc::new(FakeAdmin(Mutex::new(health(State::Ready, 3, 9, "a"))));
    let served = Arc::clone(&part) as Arc<dyn wscluster_admin::AdminPart>;
    let address = wscluster_admin::start(ANY, served, Arc::default(), axum::Router::new(), &Access::default()).unwrap();
    let gateway = gateway(address);
    let mut orders = gateway.add_worker().commands;
    let shard = Arc::clone(&gateway.table.shards()[0]);
    let polling = tokio::spawn(run(Arc::clone(&gateway)));
    until("it has answered", || shard.availability(gateway.table.now_ms()) == Availability::Available).await;
    assert_eq!((shard.load().connections, shard.load().capacity), (3, 9));
    assert_eq!(orders.try_recv(), Err(TryRecvError::Empty));
    *part.0.lock().unwrap() = health(State::Draining, 4, 9, "b");
    assert!(matches!(orders.recv().await, Some(WorkerCommand::EndTunnels(id, _)) if id == shard.id()));
    assert_eq!(shard.availability(gateway.table.now_ms()), Availability::Unavailable);
    polling.abort();
}

/// Once a panic in the log ended only the polling of one shard, which stayed unreachable for good.
#[tokio::test]
async fn a_panic_over_one_shard_ends_the_gateway() {
    let part = Arc::new(FakeAdmin(Mutex::new(health(State::Ready, 3, 9, "a"))));
    let admin = wscluster_admin::start(ANY, part, Arc::default(), axum::Router::new(), &Access::default());
    let gateway = gateway(admin.unwrap());
    let log = tracing_subscriber::fmt().with_writer(|| -> io::Stderr { panic!("as it should") }).finish();
    let _log = tracing::subscriber::set_default(log);
    let polling = tokio::spawn(run(Arc::clone(&gateway)));
    until("it failed", || gateway.has_failed()).await;
    assert_eq!(gateway.stage(), Stage::Closing);
    polling.abort();
}

#[tokio::test]
async fn reports_once_that_its_files_are_too_few_for_its_shards() {
    // Two files for the polls of each shard, two for each tunnel: 31 with one shard, 30 with two.
    let gateway = Gateway::new(settings(), Budget::new(256, 128));
    let member = |name: &str| Member { name: name.to_owned(), ws: ANY, admin: ANY };
    let says = |at: usize, capacity, incarnation: &str| {
        let shard = &gateway.table.shards()[at];
        shard.polled(health(State::Ready, 0, capacity, incarnation), gateway.table.now_ms());
        gateway.first_shortage()
    };
    gateway.set_members(&[member("a")]);
    assert_eq!(gateway.first_shortage(), None, "no shard has answered yet");
    assert_eq!(says(0, 20, "1"), None);
    gateway.set_members(&[member("a"), member("b")]);
    assert_eq!(says(1, 10, "1"), None, "just enough");
    assert_eq!(says(1, 11, "2"), Some((30, 31)));
    assert_eq!(says(1, 12, "3"), None, "it was reported already");
}

#[tokio::test(start_paused = true)]
async fn gives_up_a_shard_that_is_silent_on_both_ports() {
    let gateway = gateway(ANY);
    let mut orders = gateway.add_worker().commands;
    let shard = Arc::clone(&gateway.table.shards()[0]);
    let bytes = Arc::new(FlowBytes::default());
    shard.add_flow(Arc::clone(&bytes));
    shard.polled(health(State::Ready, 3, 9, "a"), gateway.table.now_ms());
    let mut silence = Silence { failed: FAILED_POLLS, ..Silence::default() };
    let mut check_after = async |seconds, received| {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        bytes.down.add(received);
        silence.check(&gateway, &shard);
        orders.try_recv().is_ok()
    };
    assert!(!check_after(9, 0).await, "too early");
    assert!(!check_after(2, 10).await, "its tunnels still speak");
    assert_eq!(shard.availability(gateway.table.now_ms()), Availability::Unavailable, "no health for eleven seconds");
    assert!(!check_after(9, 0).await);
    assert!(check_after(2, 0).await, "silent for eleven seconds on both ports");
    shard.polled(health(State::Ready, 3, 9, "a"), gateway.table.now_ms());
    assert!(!check_after(1, 0).await, "it is back");
}

#[tokio::test(start_paused = true)]
async fn keeps_tunnels_when_the_gateway_itself_was_stopped() {
    let gateway = gateway(ANY);
    let mut orders = gateway.add_worker().commands;
    let shard = Arc::clone(&gateway.table.shards()[0]);
    shard.polled(health(State::Ready, 3, 9, "a"), gateway.table.now_ms());
    tokio::time::advance(Duration::from_mins(1)).await;
    Silence { failed: 1, ..Silence::default() }.check(&gateway, &shard);
    assert!(orders.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn never_ends_tunnels_of_a_shard_that_was_never_heard() {
    let gateway = gateway(ANY);
    let mut orders = gateway.add_worker().commands;
    tokio::time::advance(Duration::from_mins(1)).await;
    Silence { failed: 99, ..Silence::default() }.check(&gateway, &gateway.table.shards()[0]);
    assert!(orders.try_recv().is_err());
}
