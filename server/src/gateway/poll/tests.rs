//! What polling learns: loads, replaced shards, and shards that say nothing any more.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;

use super::*;
use crate::admin;
use crate::gateway::registry::FlowBytes;
use crate::gateway::table::{Member, Standing};
use crate::gateway::tests::{ANY, budget, health, settings, until};
use crate::health::State;

struct FakeAdmin(Mutex<ShardHealth>);

impl admin::Part for FakeAdmin {
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
    let served = Arc::clone(&part) as Arc<dyn admin::Part>;
    let address = admin::start(ANY, served, Arc::default(), axum::Router::new()).unwrap();
    let gateway = gateway(address);
    let mut orders = gateway.enlist();
    let shard = Arc::clone(&gateway.table.shards()[0]);
    let polling = tokio::spawn(run(Arc::clone(&gateway)));
    until("it was heard", || shard.standing(gateway.table.now_ms()) == Standing::Good).await;
    assert_eq!((shard.load().connections, shard.load().capacity), (3, 9));
    assert_eq!(orders.try_recv(), Err(TryRecvError::Empty));
    *part.0.lock().unwrap() = health(State::Draining, 4, 9, "b");
    let Order::EndTunnels(id, _) = orders.recv().await.unwrap();
    assert_eq!(id, shard.id());
    assert_eq!(shard.standing(gateway.table.now_ms()), Standing::Closed);
    polling.abort();
}

#[tokio::test(start_paused = true)]
async fn gives_up_a_shard_that_is_silent_on_both_ports() {
    let gateway = gateway(ANY);
    let mut orders = gateway.enlist();
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
    assert_eq!(shard.standing(gateway.table.now_ms()), Standing::Closed, "no health for eleven seconds");
    assert!(!check_after(9, 0).await);
    assert!(check_after(2, 0).await, "silent for eleven seconds on both ports");
    shard.polled(health(State::Ready, 3, 9, "a"), gateway.table.now_ms());
    assert!(!check_after(1, 0).await, "it is back");
}

#[tokio::test(start_paused = true)]
async fn keeps_tunnels_when_the_gateway_itself_was_stopped() {
    let gateway = gateway(ANY);
    let mut orders = gateway.enlist();
    let shard = Arc::clone(&gateway.table.shards()[0]);
    shard.polled(health(State::Ready, 3, 9, "a"), gateway.table.now_ms());
    tokio::time::advance(Duration::from_mins(1)).await;
    Silence { failed: 1, ..Silence::default() }.check(&gateway, &shard);
    assert!(orders.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn never_ends_tunnels_of_a_shard_that_was_never_heard() {
    let gateway = gateway(ANY);
    let mut orders = gateway.enlist();
    tokio::time::advance(Duration::from_mins(1)).await;
    Silence { failed: 99, ..Silence::default() }.check(&gateway, &gateway.table.shards()[0]);
    assert!(orders.try_recv().is_err());
}
