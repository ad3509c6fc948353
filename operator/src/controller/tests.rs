//! The whole operator against a simulated world: an API server with faults, controllers, shards and clients, in
//! virtual time.

mod faults;
mod server;
mod world;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use self::faults::Faults;
use self::world::World;
use super::*;
use crate::build::fixtures;

/// The operator running in a world.
struct Rig {
    world: World,
    metrics: Arc<Metrics>,
    _until: watch::Sender<Option<Instant>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Rig {
    fn start(world: World) -> Self {
        let metrics = Arc::new(Metrics::new());
        let client = world.client();
        let (until_sender, until) = watch::channel(Some(Instant::now() + Duration::from_secs(1_000_000)));
        let (changed, mut moves) = mpsc::unbounded_channel();
        let health = HealthProber::new(Arc::new(world.clone()), Duration::from_secs(5), Arc::clone(&metrics), changed);
        let events = Events::new(client.clone(), Arc::clone(&metrics), "operator-0");
        let operator = Operator::new(client.clone(), fixtures::settings(), health, events, Arc::clone(&metrics), until);
        let (queue, mut queued) = mpsc::unbounded_channel();
        let (scope, watches) = Scope::new(&client, Some("market".to_owned()), &metrics, queue);
        let woken = scope.clone();
        let forward = async move {
            while let Some((namespace, name)) = moves.recv().await {
                woken.queue(ObjectRef::new(&name).within(&namespace));
            }
        };
        let control = async move {
            scope.listed().await;
            let queued = futures_util::stream::poll_fn(move |context| queued.poll_recv(context));
            run(Arc::new(operator), scope, queued.boxed()).await;
        };
        let tasks = vec![tokio::spawn(watches), tokio::spawn(forward), tokio::spawn(control)];
        Self { world, metrics, _until: until_sender, tasks }
    }

    /// Waits until `cluster` is `Ready` at its newest generation.
    async fn ready(&self, cluster: &str) {
        let ready = |object: &Value| {
            let generation = &object["metadata"]["generation"];
            let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            conditions.any(|c| c["type"] == "Ready" && c["status"] == "True" && c["observedGeneration"] == *generation)
        };
        self.wait(cluster, ready).await;
    }

    async fn wait(&self, cluster: &str, is: impl Fn(&Value) -> bool) {
        let waited = timeout(Duration::from_hours(1), async {
            while !self.world.object("wsclusters", cluster).is_some_and(|object| is(&object)) {
                sleep(Duration::from_millis(250)).await;
            }
        });
        if waited.await.is_err() {
            let object = self.world.object("wsclusters", cluster);
            panic!("{}\n{}", serde_json::to_string_pretty(&object).unwrap(), self.world.story());
        }
    }

    /// Asserts that nothing is written for 30 minutes.
    async fn rests(&self) {
        sleep(Duration::from_mins(1)).await;
        self.world.writes();
        sleep(Duration::from_mins(30)).await;
        assert_eq!(self.world.writes(), [""; 0], "{}", self.world.story());
    }
}

fn cluster(name: &str, shards: u32) -> Value {
    let mut cluster = serde_json::to_value(fixtures::cluster()).unwrap();
    cluster["metadata"] = json!({ "name": name, "namespace": "market" });
    cluster["spec"]["shards"] = json!(shards);
    cluster["spec"]["capacity"] = json!(100);
    cluster
}

#[tokio::test(start_paused = true)]
async fn brings_up_a_cluster_and_then_writes_nothing() {
    let rig = Rig::start(World::new(Faults::none()));
    rig.world.put("wsclusters", cluster("prices", 3));
    rig.ready("prices").await;
    rig.rests().await;
    let applied = rig.world.applied();
    assert!(applied.iter().all(|(_, times)| *times == 1), "each object is applied once: {applied:?}");
}

#[tokio::test(start_paused = true)]
async fn drains_shards_before_it_removes_them() {
    let rig = Rig::start(World::new(Faults::none()));
    rig.world.put("wsclusters", cluster("prices", 4));
    rig.ready("prices").await;
    rig.world.connect(120);
    for (field, value) in [("shards", json!(2)), ("capacity", json!(110)), ("shards", json!(5))] {
        rig.world.edit("wsclusters", "prices", |object| object["spec"][field] = value);
        rig.ready("prices").await;
        assert_eq!(rig.world.lost(), 0, "{}", rig.world.story());
        assert_eq!(rig.world.connections(), 120);
    }
    rig.rests().await;
}

/// Waits in virtual time.
async fn until(what: &str, is: impl Fn() -> bool) {
    let waited = timeout(Duration::from_hours(3), async {
        while !is() {
            sleep(Duration::from_millis(250)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(start_paused = true)]
async fn rebalances_within_the_budget_and_only_if_enabled() {
    let rig = Rig::start(World::new(Faults::none()));
    rig.world.put("wsclusters", cluster("prices", 2));
    rig.ready("prices").await;
    rig.world.connect(120);
    rig.world.edit("wsclusters", "prices", |object| object["spec"]["shards"] = json!(3));
    rig.ready("prices").await;
    rig.rests().await;
    assert_eq!(rig.world.spread(), [0, 60, 60], "nothing moves by itself");

    let rules = json!({ "maxImbalance": 20, "evictRate": 10, "budget": 20 });
    rig.world.edit("wsclusters", "prices", |object| object["spec"]["rebalance"] = rules);
    until("a first round", || rig.world.spread() == [24, 48, 48]).await;
    let round = rig.world.evictions();
    assert_eq!(round.iter().map(|evict| (evict.count, evict.evict_rate)).collect::<Vec<_>>(), [(12, 5), (12, 5)]);
    sleep(Duration::from_mins(50)).await;
    assert!(rig.world.evictions().is_empty(), "the budget of the hour is spent");
    until("a balance", || rig.world.spread() == [40, 40, 40]).await;
    let last: u32 = rig.world.evictions().iter().map(|evict| evict.count).sum();
    assert_eq!((last, rig.world.lost()), (16, 0), "{}", rig.world.story());
    let told = rig.world.events();
    let told: Vec<_> = told.iter().filter(|(reason, _)| reason == "Rebalancing").map(|(_, note)| &**note).collect();
    assert!(told.contains(&"prices-0 moves 12 of 60 connections to emptier shards, 5/s"), "{told:?}");
    rig.rests().await;
}

#[tokio::test(start_paused = true)]
async fn autoscales_up_at_once_and_down_late_without_losing_connections() {
    let rig = Rig::start(World::new(Faults::none()));
    let mut autoscaled = cluster("prices", 1);
    autoscaled["spec"]["autoscale"] =
        json!({ "min": 2, "max": 5, "targetUtilization": 70, "scaleUp": { "lead": "0s" } });
    rig.world.put("wsclusters", autoscaled);
    rig.ready("prices").await;
    let replicas = || rig.world.object("statefulsets", "prices").unwrap()["spec"]["replicas"].as_u64().unwrap();
    assert_eq!(replicas(), 2, "not spec.shards");

    rig.world.connect(200);
    let began = Instant::now();
    until("a third shard", || replicas() == 3).await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    rig.ready("prices").await;
    sleep(Duration::from_mins(30)).await;
    assert_eq!(replicas(), 3, "enough, and no fewer are");

    rig.world.disconnect(10);
    let began = Instant::now();
    until("two shards again", || replicas() == 2).await;
    assert!(began.elapsed() >= Duration::from_mins(5), "not before the window is over: {:?}", began.elapsed());
    rig.ready("prices").await;
    assert_eq!(rig.world.lost(), 0, "{}", rig.world.story());
}

#[tokio::test(start_paused = true)]
async fn repairs_edited_and_deleted_objects() {
    let rig = Rig::start(World::new(Faults::none()));
    rig.world.put("wsclusters", cluster("prices", 1));
    rig.ready("prices").await;
    rig.rests().await;
    rig.world.edit("services", "prices-gateway", |object| object["spec"]["ports"][0]["port"] = json!(1));
    let configs = rig.world.names("configmaps");
    rig.world.delete("configmaps", &configs[1]);
    sleep(Duration::from_secs(2)).await;
    assert_ne!(rig.world.object("services", "prices-gateway").unwrap()["spec"]["ports"][0]["port"], json!(1));
    assert_eq!(rig.world.names("configmaps"), configs);
    rig.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_malformed_object_is_reported_and_affects_no_other() {
    let rig = Rig::start(World::new(Faults::none()));
    let mut malformed = cluster("broken", 1);
    malformed["spec"]["shards"] = json!("three");
    rig.world.put("wsclusters", malformed);
    rig.world.put("wsclusters", cluster("prices", 1));
    rig.ready("prices").await;
    rig.wait("broken", |object| object["status"]["phase"] == "Invalid").await;
    rig.rests().await;
    rig.world.edit("wsclusters", "broken", |object| object["spec"]["shards"] = json!(1));
    rig.ready("broken").await;
}

#[tokio::test(start_paused = true)]
async fn a_taken_name_is_reported_until_it_is_free() {
    let world = World::new(Faults::none());
    world.put("services", json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "prices-gateway", "namespace": "market" } }));
    let rig = Rig::start(world);
    rig.world.put("wsclusters", cluster("prices", 1));
    rig.wait("prices", |object| object["status"]["phase"] == "Blocked").await;
    assert!(rig.world.object("services", "prices-gateway").unwrap()["spec"].is_null(), "it is left as it was");
    rig.world.delete("services", "prices-gateway");
    rig.ready("prices").await;
}

#[tokio::test(start_paused = true)]
async fn an_invalid_or_paused_spec_changes_nothing() {
    let rig = Rig::start(World::new(Faults::none()));
    rig.world.put("wsclusters", cluster("prices", 2));
    rig.ready("prices").await;
    let before = rig.world.object("statefulsets", "prices");
    rig.world.edit("wsclusters", "prices", |object| {
        object["spec"]["shards"] = json!(3);
        object["spec"]["paused"] = json!(true);
    });
    rig.wait("prices", |object| object["status"]["phase"] == "Paused").await;
    assert_eq!(rig.world.object("statefulsets", "prices"), before);
    rig.world.edit("wsclusters", "prices", |object| {
        object["spec"]["paused"] = json!(false);
        object["spec"]["source"]["kafka"]["brokers"] = json!([]);
    });
    rig.wait("prices", |object| object["status"]["phase"] == "Invalid").await;
    assert_eq!(rig.world.object("statefulsets", "prices"), before);
    rig.rests().await;
}

#[tokio::test(start_paused = true)]
async fn publishes_one_event_for_each_transition() {
    let rig = Rig::start(World::new(Faults::none()));
    rig.world.put("wsclusters", cluster("prices", 1));
    rig.ready("prices").await;
    rig.rests().await;
    let told = rig.world.events();
    assert_eq!(told.iter().filter(|(reason, _)| reason == "Ready").count(), 1, "{told:?}");
    rig.world.edit("wsclusters", "prices", |object| object["spec"]["capacity"] = json!(90));
    rig.ready("prices").await;
    let told = rig.world.events();
    let rollouts: Vec<_> = told.iter().filter(|(reason, _)| reason == "ShardRollout").collect();
    assert_eq!(rollouts.len(), 1, "{told:?}");
    assert!(rollouts[0].1.ends_with("because of spec.capacity: 100 → 90"), "{rollouts:?}");
    rig.rests().await;
    assert_eq!(rig.world.names("configmaps").len(), 2, "the manifest of the old revision went with its last pod");
}

#[tokio::test(start_paused = true)]
async fn converges_under_faults_of_the_api_server_and_then_rests() {
    for seed in 0..6 {
        let rig = Rig::start(World::new(Faults::seeded(seed)));
        rig.world.put("wsclusters", cluster("prices", 3));
        rig.ready("prices").await;
        rig.world.connect(90);
        let edits = [("shards", json!(5)), ("capacity", json!(90)), ("shards", json!(2))];
        for (field, value) in edits {
            rig.world.edit("wsclusters", "prices", |object| object["spec"][field] = value);
            rig.ready("prices").await;
        }
        assert_eq!((rig.world.lost(), rig.world.connections()), (0, 90), "seed {seed}\n{}", rig.world.story());
        rig.world.calm();
        // Faults may have left a watch in its longest back-off.
        sleep(Duration::from_mins(10)).await;
        rig.rests().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_cannot_reach_any_shard_removes_none() {
    let rig = Rig::start(World::new(Faults::none()));
    rig.world.put("wsclusters", cluster("prices", 3));
    rig.ready("prices").await;
    rig.world.connect(60);
    rig.wait("prices", |object| object["status"]["connections"] == json!(60)).await;
    rig.world.cut(true);
    rig.world.edit("wsclusters", "prices", |object| {
        object["spec"]["shards"] = json!(2);
        object["spec"]["capacity"] = json!(90);
    });
    rig.wait("prices", |object| object["status"].to_string().contains("ShardSilent")).await;
    // Far longer than the deadline of a drain.
    sleep(Duration::from_mins(30)).await;
    let set = rig.world.object("statefulsets", "prices").unwrap();
    assert_eq!((&set["spec"]["replicas"], rig.world.lost()), (&json!(3), 0), "{}", rig.world.story());
    let told = rig.world.object("wsclusters", "prices").unwrap()["status"].to_string();
    assert!(told.contains("the pod of shard 2 is Ready with 20 connections, but the shard does not answer"), "{told}");
    rig.world.cut(false);
    rig.ready("prices").await;
    assert_eq!((rig.world.lost(), rig.world.connections()), (0, 60), "{}", rig.world.story());
}

#[tokio::test(start_paused = true)]
async fn drains_are_cancelled_while_the_spec_is_invalid_or_cannot_be_applied() {
    let rig = Rig::start(World::new(Faults::none()));
    rig.world.put("wsclusters", cluster("prices", 2));
    rig.ready("prices").await;
    let brokers = rig.world.object("wsclusters", "prices").unwrap()["spec"]["source"]["kafka"]["brokers"].clone();
    let edit = |brokers: Value| {
        rig.world.edit("wsclusters", "prices", |object| object["spec"]["source"]["kafka"]["brokers"] = brokers);
    };
    edit(json!([]));
    rig.wait("prices", |object| object["status"]["phase"] == "Invalid").await;
    rig.world.drain("prices-1");
    until("upgrades on a shard although the spec is invalid", || !rig.world.is_draining("prices-1")).await;

    rig.world.refuse(Some("services"));
    rig.world.edit("wsclusters", "prices", |object| {
        object["spec"]["gateway"]["service"] = json!({ "annotations": { "example.com/note": "new" } });
    });
    edit(brokers);
    rig.wait("prices", |object| object["status"].to_string().contains("failed to apply Service")).await;
    rig.world.drain("prices-0");
    until("upgrades on a shard although nothing can be applied", || !rig.world.is_draining("prices-0")).await;
    rig.world.refuse(None);
    rig.ready("prices").await;
    rig.rests().await;
}

#[tokio::test(start_paused = true)]
async fn an_invalid_spec_is_not_retried_until_it_changes() {
    let rig = Rig::start(World::new(Faults::none()));
    rig.world.put("wsclusters", cluster("prices", 2));
    rig.ready("prices").await;
    rig.world.connect(100);
    let counted = |connections: u32| move |object: &Value| object["status"]["connections"] == json!(connections);
    rig.wait("prices", counted(100)).await;
    rig.world.disconnect(10);
    rig.wait("prices", counted(20)).await;
    rig.world.edit("wsclusters", "prices", |object| object["spec"]["source"]["kafka"]["brokers"] = json!([]));
    rig.wait("prices", |object| object["status"]["phase"] == "Invalid").await;
    sleep(Duration::from_mins(1)).await;
    let before = rig.metrics.reconciles();
    sleep(Duration::from_mins(10)).await;
    let looks = rig.metrics.reconciles() - before;
    assert!(looks < 10, "{looks} looks within ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_the_label_of_the_operator_is_drained_like_any_other() {
    let rig = Rig::start(World::new(Faults::none()));
    rig.world.put("wsclusters", cluster("prices", 3));
    rig.ready("prices").await;
    rig.world.connect(60);
    rig.world.edit("pods", "prices-2", |pod| {
        pod["metadata"]["labels"].as_object_mut().unwrap().remove("app.kubernetes.io/managed-by");
    });
    rig.rests().await;
    rig.world.edit("wsclusters", "prices", |object| object["spec"]["shards"] = json!(2));
    rig.ready("prices").await;
    assert_eq!((rig.world.lost(), rig.world.connections()), (0, 60), "{}", rig.world.story());
}
