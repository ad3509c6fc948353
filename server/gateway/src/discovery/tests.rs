//! A gateway that discovers its shards through an API server: changes of the list, and outages.

mod fake;

use std::sync::atomic::Ordering::SeqCst;

use serde_json::Value;
use wscluster_admin::AdminPart as _;
use wscluster_admin::health::State;
use wscluster_routing::backend::ShardId;

use self::fake::{FakeApi, Gone};
use super::slices::tests::{pod, slice};
use super::*;
use crate::status::GatewayStatus;
use crate::tests::{FakeShard, Rig, Script, settings, until};

/// A gateway that follows `api`, and the state of its discovery.
fn gateway(api: &FakeApi) -> (Rig, Arc<Discovery>) {
    let rig = Rig::start(&[], settings());
    let discovery = Arc::new(Discovery::new("default/prices-shards".parse().unwrap()));
    rig.gateway.discovery.set(Arc::clone(&discovery)).unwrap();
    tokio::spawn(run(Arc::clone(&rig.gateway), Arc::clone(&discovery), api.client()));
    (rig, discovery)
}

fn members(rig: &Rig) -> Vec<String> {
    let shards = rig.gateway.table.shards();
    shards.iter().map(|shard| format!("{}={}", shard.member().name, shard.member().ws.ip())).collect()
}

async fn until_members(rig: &Rig, expected: &[&str]) {
    until(&format!("the members are {expected:?}"), || members(rig) == expected).await;
}

/// A slice with the ports of `shard`.
fn slice_of(shard: &FakeShard, name: &str, pod_name: &str) -> Value {
    let mut slice = serde_json::to_value(slice(name, "IPv4", &[pod(pod_name, "127.0.0.1")])).unwrap();
    slice["ports"] = serde_json::json!([{ "name": "ws", "port": shard.ws.port() }, { "name": "admin", "port": 1 }]);
    slice
}

#[tokio::test]
async fn follows_the_slices_of_its_service() {
    let api = FakeApi::start().await;
    api.put("a", "IPv4", &[pod("prices-0", "10.0.0.1")]);
    let (rig, discovery) = gateway(&api);
    let room = rig.gateway.fds.room();
    until_members(&rig, &["prices-0=10.0.0.1"]).await;
    assert_eq!(rig.gateway.fds.room(), room - 2, "polling takes descriptors");
    api.put("b", "IPv4", &[pod("prices-1", "10.0.0.2"), pod("prices-0", "10.0.0.1")]);
    until_members(&rig, &["prices-0=10.0.0.1", "prices-1=10.0.0.2"]).await;
    api.put("c", "IPv6", &[pod("prices-0", "fd00::1")]);
    api.put("b", "IPv4", &[pod("prices-0", "10.0.0.1"), pod("prices-1", "10.0.0.2"), pod("prices-2", "10.0.0.3")]);
    until_members(&rig, &["prices-0=10.0.0.1", "prices-1=10.0.0.2", "prices-2=10.0.0.3"]).await;
    api.delete("b");
    until_members(&rig, &["prices-0=10.0.0.1"]).await;
    let asked = api.asked();
    assert_eq!(asked, (1, 1), "one watch reported all changes");
    assert_eq!(rig.gateway.fds.room(), room - 2);
    assert_eq!((discovery.members(), discovery.errors()), (1, 0));
    let text = rig.metrics();
    assert!(text.contains("wscluster_gateway_discovery_members 1\n"), "{text}");
    assert!(text.contains("wscluster_gateway_discovery_errors_total 0\n"), "{text}");
    assert!(text.contains("wscluster_gateway_discovery_age_seconds "), "{text}");
}

#[tokio::test]
async fn a_pod_that_comes_back_elsewhere_is_a_new_shard() {
    let api = FakeApi::start().await;
    api.put("a", "IPv4", &[pod("prices-0", "10.0.0.1"), pod("prices-1", "10.0.0.2")]);
    let (rig, _) = gateway(&api);
    until_members(&rig, &["prices-0=10.0.0.1", "prices-1=10.0.0.2"]).await;
    let ids = || -> Vec<ShardId> { rig.gateway.table.shards().iter().map(|shard| shard.id()).collect() };
    let before = ids();
    api.put("a", "IPv4", &[pod("prices-0", "10.0.0.7"), pod("prices-1", "10.0.0.2")]);
    until_members(&rig, &["prices-0=10.0.0.7", "prices-1=10.0.0.2"]).await;
    assert_ne!(ids()[0], before[0]);
    assert_eq!(ids()[1], before[1]);
}

#[tokio::test]
async fn goes_on_after_a_watch_was_cut_and_misses_nothing() {
    for gone in [None, Some(Gone::Status), Some(Gone::Event)] {
        let api = FakeApi::start().await;
        api.put("a", "IPv4", &[pod("prices-0", "10.0.0.1")]);
        let (rig, _) = gateway(&api);
        until_members(&rig, &["prices-0=10.0.0.1"]).await;
        until("it watches", || api.asked().1 == 1).await;
        let id = rig.shard(0).id();
        api.cut(gone);
        api.put("b", "IPv4", &[pod("prices-1", "10.0.0.2")]);
        until_members(&rig, &["prices-0=10.0.0.1", "prices-1=10.0.0.2"]).await;
        until("it watches again", || api.asked().1 >= 2).await;
        assert_eq!(rig.shard(0).id(), id, "{gone:?}: its state was lost");
    }
}

#[tokio::test]
async fn serves_by_the_last_list_while_the_api_server_is_away() {
    let mut api = FakeApi::start().await;
    let shards = [FakeShard::start(Script::Serve, 9).await, FakeShard::start(Script::Serve, 9).await];
    api.put_with("a", slice_of(&shards[0], "a", "prices-0"));
    let (rig, discovery) = gateway(&api);
    until_members(&rig, &["prices-0=127.0.0.1"]).await;
    rig.tell(0, State::Ready, 0, 9, "a");
    let mut early = rig.tunnel().await;

    api.go_away().await;
    until("that shows", || discovery.errors() >= 2).await;
    let health = discovery.health();
    assert!(health.listed && health.error.as_ref().is_some_and(|error| error.contains("efused")), "{health:?}");
    let mut late = rig.tunnel().await;
    for wire in [&mut early, &mut late] {
        wire.send("still here").await;
        assert_eq!(wire.bytes(10).await, b"still here");
    }

    api.delete("a");
    api.put_with("b", slice_of(&shards[1], "b", "prices-1"));
    api.come_back().await;
    until("it has the new list", || members(&rig) == ["prices-1=127.0.0.1"]).await;
    until("all is well", || discovery.health().error.is_none()).await;
    rig.tell(0, State::Ready, 0, 9, "a");
    let _new = rig.tunnel().await;
    assert_eq!(shards[1].slots.load(SeqCst), 1);
    // A shard that is no longer listed keeps its tunnels until it ends them.
    early.send("still here").await;
    assert_eq!(early.bytes(10).await, b"still here");
}

#[tokio::test]
async fn reports_that_it_is_not_allowed_to_list() {
    let api = FakeApi::start().await;
    api.refuse(Some(403));
    let (rig, discovery) = gateway(&api);
    let part = GatewayStatus::new(Arc::clone(&rig.gateway));
    until("that shows", || discovery.errors() > 0).await;
    assert_eq!(part.ready(), Err("the API server has not listed the shards yet".to_owned()));
    let health = part.report().discovery.unwrap();
    assert_eq!((&*health.service, health.members, health.listed), ("default/prices-shards", 0, false));
    assert!(health.error.as_ref().is_some_and(|error| error.contains("403 no, 403")), "{health:?}");
    api.put("a", "IPv4", &[pod("prices-0", "10.0.0.1")]);
    api.refuse(None);
    until_members(&rig, &["prices-0=10.0.0.1"]).await;
    assert_eq!(part.ready(), Err("no shard has answered yet".to_owned()));
    rig.tell(0, State::Ready, 0, 9, "a");
    assert_eq!(part.ready(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn calls_it_trouble_only_when_it_lasts() {
    let discovery = Discovery::new("default/prices-shards".parse().unwrap());
    discovery.confirmed();
    tokio::time::advance(TROUBLE * 2).await;
    assert_eq!(discovery.trouble(), None, "an idle list is no trouble");
    discovery.confirmed();
    discovery.failed("connection refused");
    tokio::time::advance(TROUBLE / 2).await;
    assert_eq!(discovery.trouble(), None);
    tokio::time::advance(TROUBLE).await;
    let trouble = discovery.trouble().unwrap();
    assert!(trouble.contains("45 s") && trouble.contains("connection refused"), "{trouble}");
    discovery.confirmed();
    assert_eq!(discovery.trouble(), None);
}

#[test]
fn takes_only_namespace_and_service() {
    assert_eq!("default/prices-shards".parse::<Service>().unwrap().to_string(), "default/prices-shards");
    for wrong in ["prices", "a/b/c", "/b", "a/", "A/b", "a/b?c", "-a/b", ""] {
        let error = wrong.parse::<Service>().unwrap_err();
        assert!(error.contains("NAMESPACE/NAME"), "{error}");
    }
}
