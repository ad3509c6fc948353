//! The world of the operator: objects, the controllers of Kubernetes, shards, and clients that move between shards.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use futures_util::future::BoxFuture;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use wscluster_admin::drain::{Drain, EvictRequest};
use wscluster_admin::health::{ShardHealth, State};

use super::faults::Faults;
use super::server;
use crate::shard_client::{self, ShardClient, ShardError};

/// A handle to the world, shared by the test, the operator and the API server.
#[derive(Clone, Debug)]
pub(super) struct World(Arc<Mutex<Inner>>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) faults: Faults,
    pub(super) version: u64,
    pub(super) news: watch::Sender<u64>,
    objects: BTreeMap<(String, String), Value>,
    log: Vec<(u64, String, &'static str, Value)>,
    shards: BTreeMap<IpAddr, Shard>,
    writes: Vec<String>,
    applied: BTreeMap<String, u32>,
    events: Vec<(String, String)>,
    lost: u32,
    evictions: Vec<EvictRequest>,
    addresses: u8,
    story: Vec<String>,
    /// The operator cannot reach any shard.
    pub(super) cut: bool,
    /// A kind whose objects cannot be applied.
    pub(super) refused: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Shard {
    connections: u32,
    draining: bool,
}

impl World {
    pub(super) fn new(faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            faults,
            version: 1,
            news: watch::channel(0).0,
            objects: BTreeMap::new(),
            log: Vec::new(),
            shards: BTreeMap::new(),
            writes: Vec::new(),
            applied: BTreeMap::new(),
            events: Vec::new(),
            lost: 0,
            evictions: Vec::new(),
            addresses: 0,
            story: Vec::new(),
            cut: false,
            refused: None,
        })))
    }

    pub(super) fn client(&self) -> Client {
        Client::new(Router::new().fallback(server::answer).with_state(Arc::clone(&self.0)), "market")
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(super) fn object(&self, plural: &str, name: &str) -> Option<Value> {
        self.inner().get(plural, name)
    }

    /// Names of all objects of a kind.
    pub(super) fn names(&self, plural: &str) -> Vec<String> {
        let all = self.inner().all(plural);
        all.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Creates an object.
    pub(super) fn put(&self, plural: &str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.inner().store(plural, &name, object);
    }

    /// Edits an object.
    pub(super) fn edit(&self, plural: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut inner = self.inner();
        let mut object = inner.get(plural, name).unwrap();
        edit(&mut object);
        inner.store(plural, name, object);
    }

    /// Deletes an object.
    pub(super) fn delete(&self, plural: &str, name: &str) {
        let mut inner = self.inner();
        inner.delete(plural, name).unwrap();
        inner.writes.pop();
    }

    /// Connects clients.
    pub(super) fn connect(&self, clients: u32) {
        self.inner().place(clients);
    }

    pub(super) fn connections(&self) -> u32 {
        self.spread().iter().sum()
    }

    /// Connections of each shard, fewest first.
    pub(super) fn spread(&self) -> Vec<u32> {
        let mut spread: Vec<_> = self.inner().shards.values().map(|shard| shard.connections).collect();
        spread.sort_unstable();
        spread
    }

    /// Disconnects clients until at most this many are left on each shard.
    pub(super) fn disconnect(&self, left: u32) {
        self.inner().shards.values_mut().for_each(|shard| shard.connections = shard.connections.min(left));
    }

    /// The eviction requests since the last call.
    pub(super) fn evictions(&self) -> Vec<EvictRequest> {
        std::mem::take(&mut self.inner().evictions)
    }

    /// Connections that ended because their shard was removed.
    pub(super) fn lost(&self) -> u32 {
        self.inner().lost
    }

    /// The writes of the operator since the last call.
    pub(super) fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.inner().writes)
    }

    /// How often each object was applied.
    pub(super) fn applied(&self) -> BTreeMap<String, u32> {
        self.inner().applied.clone()
    }

    /// Reasons and notes of all Events.
    pub(super) fn events(&self) -> Vec<(String, String)> {
        self.inner().events.clone()
    }

    /// Stops all faults.
    pub(super) fn calm(&self) {
        self.inner().faults = Faults::none();
    }

    /// Cuts or restores the connection between the operator and all shards.
    pub(super) fn cut(&self, cut: bool) {
        self.inner().cut = cut;
    }

    /// Refuses to apply objects of this kind.
    pub(super) fn refuse(&self, plural: Option<&'static str>) {
        self.inner().refused = plural;
    }

    /// Lets a shard drain without a request of the operator. Its clients stay.
    pub(super) fn drain(&self, pod: &str) {
        self.shard_of(pod, |shard| shard.draining = true);
    }

    pub(super) fn is_draining(&self, pod: &str) -> bool {
        self.shard_of(pod, |shard| shard.draining)
    }

    fn shard_of<T>(&self, pod: &str, of: impl FnOnce(&mut Shard) -> T) -> T {
        let mut inner = self.inner();
        let address = address(&inner.get("pods", pod).unwrap()).unwrap();
        of(inner.shards.get_mut(&address).unwrap())
    }

    /// The most recent events, for messages of failed assertions.
    pub(super) fn story(&self) -> String {
        let story = &self.inner().story;
        story[story.len().saturating_sub(60)..].join("\n")
    }
}

impl Inner {
    pub(super) fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.objects.get(&(plural.to_owned(), name.to_owned())).cloned()
    }

    pub(super) fn all(&self, plural: &str) -> Vec<Value> {
        self.objects.iter().filter(|((of, _), _)| of == plural).map(|(_, object)| object.clone()).collect()
    }

    /// The first change of objects of a kind after a version. Objects that `is` does not select appear as deleted.
    pub(super) fn after(
        &self,
        plural: &str,
        version: u64,
        is: impl Fn(&Value) -> bool,
    ) -> Option<(u64, &'static str, Value)> {
        let mut log = self.log.iter();
        let (version, _, kind, object) = log.find(|(at, of, _, _)| *at > version && of == plural)?;
        Some((*version, if is(object) { *kind } else { "DELETED" }, object.clone()))
    }

    /// Server-side apply.
    pub(super) fn apply(&mut self, plural: &str, name: &str, wanted: &Value) -> Value {
        self.writes.push(format!("apply {plural}/{name}"));
        *self.applied.entry(format!("{plural}/{name}")).or_default() += 1;
        let mut object = self.get(plural, name).unwrap_or_else(|| json!({}));
        merge(&mut object, wanted);
        self.store(plural, name, object);
        self.get(plural, name).expect("it was stored just now")
    }

    pub(super) fn patch_status(&mut self, plural: &str, name: &str, patch: &Value) -> Option<Value> {
        self.writes.push(format!("status {plural}/{name}"));
        let mut object = self.get(plural, name)?;
        object["status"] = patch["status"].clone();
        self.story.push(format!("status {}", patch["status"]["conditions"]));
        self.store(plural, name, object);
        self.get(plural, name)
    }

    pub(super) fn record_event(&mut self, event: &Value) {
        self.writes.push(format!("event {}", event["reason"]));
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        self.story.push(format!("event {}: {}", text("reason"), text("note")));
        self.events.push((text("reason"), text("note")));
    }

    pub(super) fn delete(&mut self, plural: &str, name: &str) -> Option<Value> {
        self.writes.push(format!("delete {plural}/{name}"));
        let object = self.remove(plural, name)?;
        self.controllers();
        Some(object)
    }

    fn remove(&mut self, plural: &str, name: &str) -> Option<Value> {
        let mut object = self.objects.remove(&(plural.to_owned(), name.to_owned()))?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.note(plural, "DELETED", object.clone());
        if let Some(address) = address(&object) {
            let connections = self.shards.remove(&address).map_or(0, |shard| shard.connections);
            self.lost += connections;
            self.story.push(format!("{name} is removed with {connections} connections"));
            // The disconnected clients reconnect.
            self.place(connections);
        }
        Some(object)
    }

    /// Stores an object if it differs from the stored one, and runs the controllers.
    fn store(&mut self, plural: &str, name: &str, object: Value) {
        if self.keep(plural, name, object) {
            self.controllers();
        }
    }

    fn keep(&mut self, plural: &str, name: &str, mut object: Value) -> bool {
        let before = self.get(plural, name);
        if before.as_ref() == Some(&object) {
            return false;
        }
        self.version += 1;
        let metadata = &mut object["metadata"];
        let generation = match &before {
            None => {
                metadata["uid"] = json!(format!("{plural}-{name}-{}", self.version));
                1
            }
            Some(before) => {
                let generation = before["metadata"]["generation"].as_i64().unwrap_or(1);
                generation + i64::from(before["spec"] != object["spec"])
            }
        };
        object["metadata"]["generation"] = json!(generation);
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert((plural.to_owned(), name.to_owned()), object.clone());
        self.note(plural, if before.is_none() { "ADDED" } else { "MODIFIED" }, object);
        true
    }

    fn note(&mut self, plural: &str, kind: &'static str, object: Value) {
        self.log.push((self.version, plural.to_owned(), kind, object));
        self.news.send_replace(self.version);
    }

    /// Does what the controllers of `StatefulSet`s and `Deployment`s do, without delay.
    fn controllers(&mut self) {
        for mut deployment in self.all("deployments") {
            let replicas = deployment["spec"]["replicas"].clone();
            deployment["status"] = json!({ "observedGeneration": deployment["metadata"]["generation"], "replicas": replicas,
                "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas });
            let name = deployment["metadata"]["name"].as_str().unwrap().to_owned();
            self.keep("deployments", &name, deployment);
        }
        for mut set in self.all("statefulsets") {
            self.pods(&set);
            let name = set["metadata"]["name"].as_str().unwrap().to_owned();
            let revision = |of: &Value| of["metadata"]["labels"]["wscluster.dev/revision"].clone();
            let wanted = revision(&set["spec"]["template"]);
            let is_of_set = |pod: &Value| pod["metadata"]["name"].as_str().unwrap().starts_with(&format!("{name}-"));
            let is_done = self.all("pods").iter().filter(|pod| is_of_set(pod)).all(|pod| revision(pod) == wanted);
            let current = if is_done { wanted.clone() } else { set["status"]["currentRevision"].clone() };
            set["status"] = json!({ "observedGeneration": set["metadata"]["generation"], "replicas": set["spec"]["replicas"],
                "currentRevision": current, "updateRevision": wanted });
            self.keep("statefulsets", &name, set);
        }
    }

    fn pods(&mut self, set: &Value) {
        let name = set["metadata"]["name"].as_str().unwrap();
        let (replicas, template) = (set["spec"]["replicas"].as_u64().unwrap(), &set["spec"]["template"]);
        let partition = set["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_u64().unwrap_or(0);
        for pod in self.all("pods") {
            let pod_name = pod["metadata"]["name"].as_str().unwrap();
            let Some(ordinal) = pod_name.strip_prefix(&format!("{name}-")).and_then(|o| o.parse::<u64>().ok()) else {
                continue;
            };
            let labels = |of: &Value| of["metadata"]["labels"]["wscluster.dev/revision"].clone();
            if ordinal >= replicas || (ordinal >= partition && labels(&pod) != labels(template)) {
                self.remove("pods", pod_name);
            }
        }
        for ordinal in 0..replicas {
            let pod_name = format!("{name}-{ordinal}");
            if self.get("pods", &pod_name).is_some() {
                continue;
            }
            self.addresses += 1;
            let ip = format!("10.0.0.{}", self.addresses);
            let status =
                json!({ "phase": "Running", "podIP": ip, "conditions": [{ "type": "Ready", "status": "True" }] });
            let mut metadata = template["metadata"].clone();
            metadata["name"] = json!(pod_name);
            metadata["namespace"] = json!("market");
            self.shards.insert(ip.parse().unwrap(), Shard::default());
            self.keep("pods", &pod_name, json!({ "metadata": metadata, "spec": template["spec"], "status": status }));
        }
    }

    /// Places clients, one after the other, on the shard with the fewest connections that does not drain.
    fn place(&mut self, clients: u32) {
        for _ in 0..clients {
            let open = self.shards.values_mut().filter(|shard| !shard.draining);
            if let Some(shard) = open.min_by_key(|shard| shard.connections) {
                shard.connections += 1;
            }
        }
    }
}

fn address(pod: &Value) -> Option<IpAddr> {
    pod["status"]["podIP"].as_str()?.parse().ok()
}

fn merge(live: &mut Value, applied: &Value) {
    match applied {
        Value::Object(applied) if live.is_object() => {
            applied.iter().for_each(|(key, value)| merge(&mut live[key.as_str()], value));
        }
        _ => *live = applied.clone(),
    }
}

impl ShardClient for World {
    fn health(&self, shard: IpAddr) -> BoxFuture<'_, Result<ShardHealth, ShardError>> {
        let inner = self.inner();
        let answer = inner.shards.get(&shard).filter(|_| !inner.cut).map(|shard| {
            let state = if shard.draining { State::Draining } else { State::Ready };
            shard_client::health(state, shard.connections, 100)
        });
        drop(inner);
        Box::pin(async move { answer.ok_or_else(|| ShardError::Missing) })
    }

    fn drain(&self, shard: IpAddr, _: Drain) -> BoxFuture<'_, Result<(), ShardError>> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        inner.story.push(format!("{shard} drains"));
        let moving = inner.shards.get_mut(&shard).map(|shard| {
            shard.draining = true;
            std::mem::take(&mut shard.connections)
        });
        inner.place(moving.unwrap_or(0));
        Box::pin(async { Ok(()) })
    }

    fn undrain(&self, shard: IpAddr) -> BoxFuture<'_, Result<(), ShardError>> {
        if let Some(shard) = self.inner().shards.get_mut(&shard) {
            shard.draining = false;
        }
        Box::pin(async { Ok(()) })
    }

    fn evict(&self, shard: IpAddr, eviction: EvictRequest) -> BoxFuture<'_, Result<(), ShardError>> {
        let mut inner = self.inner();
        let held = inner.shards.get_mut(&shard).expect("an existing shard");
        let count = eviction.count.min(held.connections);
        held.connections -= count;
        inner.evictions.push(eviction);
        inner.place(count);
        Box::pin(async { Ok(()) })
    }
}
