//! What is there of one cluster, as the watches and the shards themselves last told.
//!
//! Reads caches, asks new shards for their health, and, only where pods are missing, asks the API server why. Decides nothing.

mod missing;
mod trouble;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::time::Instant;
use wscluster_api::WsCluster;
use wscluster_plan::{Shard, State, Timestamp};

pub use self::missing::{Missing, refused};
pub use self::trouble::{Ailment, Trouble};
use crate::build::names;
use crate::build::{Part, labels};
use crate::health::{Health, Seen, Target};
use crate::live::Live;

/// What is there of one cluster.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The shards' `StatefulSet`.
    pub stateful_set: Option<Arc<StatefulSet>>,
    /// The gateways' `Deployment`.
    pub deployment: Option<Arc<Deployment>>,
    /// Pods of shards, by ordinal.
    pub shards: Vec<ShardPod>,
    /// What ails pods of gateways.
    pub gateway_trouble: Option<Trouble>,
    /// Why pods are missing, in the words of whoever refused them.
    pub refused: Option<String>,
}

/// A shard's pod.
#[derive(Clone, Debug)]
pub struct ShardPod {
    /// Its name.
    pub name: String,
    /// Its unique id.
    pub uid: String,
    /// Position in the `StatefulSet`.
    pub ordinal: u32,
    /// Revision of the template it was made of.
    pub revision: String,
    /// Where it is, once it has an address.
    pub address: Option<IpAddr>,
    /// Whether its kubelet calls it ready.
    pub ready: bool,
    /// How long ago its kubelet last found it so, where it does not any more.
    pub unready: Option<Duration>,
    /// Whether its process was ever ready, by the word of its kubelet: it may hold connections.
    pub served: bool,
    /// How long it has been terminating.
    pub leaving: Option<Duration>,
    /// How long ago it was started.
    pub age: Option<Duration>,
    /// What ails it.
    pub trouble: Option<Trouble>,
    /// What it says of itself.
    pub health: Seen,
}

/// Looks at everything there is of `cluster`, but for why pods are missing.
pub async fn observe(cluster: &WsCluster, live: &Live, health: &Health) -> Observed {
    let namespace = names::namespace(cluster);
    let key = (namespace.clone(), names::cluster(cluster));
    let mut shards: Vec<ShardPod> = of(&live.pods, cluster, Part::Shard).iter().filter_map(|pod| shard(pod)).collect();
    // Of two pods of one ordinal, the one that leaves says more: the other cannot have started.
    shards.sort_by_key(|pod| (pod.ordinal, pod.leaving.is_none()));
    shards.dedup_by_key(|pod| pod.ordinal);
    let targets: Vec<_> =
        shards.iter().filter_map(|pod| Some(Target { uid: pod.uid.clone(), address: pod.address? })).collect();
    let mut seen: HashMap<String, Seen> = health.of(&key, &targets).await;
    for pod in &mut shards {
        pod.health = seen.remove(&pod.uid).unwrap_or_default();
    }
    let troubled = of(&live.pods, cluster, Part::Gateway);
    Observed {
        stateful_set: live.stateful_sets.get(&ObjectRef::new(&key.1).within(&namespace)),
        deployment: live.deployments.get(&ObjectRef::new(&names::part(cluster, Part::Gateway)).within(&namespace)),
        shards,
        gateway_trouble: troubled
            .iter()
            .filter(|pod| leaving(pod).is_none())
            .find_map(|pod| trouble::of(pod, Part::Gateway)),
        refused: None,
    }
}

impl Observed {
    /// As a plan reads it.
    pub fn for_plan(&self, cluster: &WsCluster, now: Timestamp) -> wscluster_plan::Observed {
        let gateways = self.ready_gateways();
        let shards = self.shards.iter().map(|pod| pod.for_plan(cluster, gateways, now)).collect();
        wscluster_plan::Observed { replicas: self.replicas().unwrap_or(0), reconnecting: 0, shards }
    }

    /// What the `StatefulSet` asks for.
    pub fn replicas(&self) -> Option<u32> {
        let set = self.stateful_set.as_ref()?;
        Some(set.spec.as_ref()?.replicas.unwrap_or(1).max(0) as u32)
    }

    /// Gateways that take clients.
    fn ready_gateways(&self) -> u32 {
        let status = self.deployment.as_ref().and_then(|deployment| deployment.status.as_ref());
        status.and_then(|status| status.ready_replicas).unwrap_or(0).max(0) as u32
    }

    /// When the next pod that leaves should have ended, where it has `grace` for that.
    pub fn should_end(&self, grace: Duration) -> Option<Duration> {
        let left = |pod: &ShardPod| grace.checked_sub(pod.leaving?).filter(|left| !left.is_zero());
        self.shards.iter().filter_map(left).min()
    }

    /// The pod of an ordinal.
    pub fn pod(&self, ordinal: u32) -> Option<&ShardPod> {
        self.shards.iter().find(|pod| pod.ordinal == ordinal)
    }
}

impl ShardPod {
    /// What it does, of what is known.
    pub fn state(&self) -> State {
        if self.leaving.is_some() {
            return State::Leaving;
        }
        if self.trouble.as_ref().is_some_and(|trouble| trouble.is_down) {
            return State::Failing;
        }
        let Some(answer) = self.health.answer() else {
            // An operator that was just started has not heard of it yet, and must not take it for empty.
            return if self.served { State::Silent } else { State::Starting };
        };
        // What it said before it was last told to do something is not true any more.
        if self.health.silent_for().is_some() || !self.health.is_fresh() {
            return State::Silent;
        }
        match &*answer.state {
            "ready" => State::Ready,
            "full" => State::Full,
            "draining" => State::Draining,
            "starting" if answer.connections == 0 => State::Starting,
            // It may hold somebody, whatever it is.
            _ => State::Silent,
        }
    }

    /// Connections that it holds, as far as is known: none where no process runs, nor where it should have ended `deadline` after it
    /// was told to, as its node is gone then.
    pub fn connections(&self, deadline: Duration) -> u32 {
        let is_over = self.state() == State::Failing || self.leaving.is_some_and(|leaving| leaving >= deadline);
        if is_over { 0 } else { self.health.connections() }
    }

    /// Whether it serves clients: by its own word, and by its kubelet's.
    pub fn serves(&self) -> bool {
        self.ready && matches!(self.state(), State::Ready | State::Full)
    }

    /// Connections it may hold: what it says, or what it will.
    pub fn capacity(&self, default: u32) -> u32 {
        self.health.answer().map_or(default, |answer| answer.capacity)
    }

    /// Whether all of so many gateways send clients to it.
    fn is_routed(&self, gateways: u32) -> bool {
        self.health.answer().and_then(|answer| answer.gateways).is_none_or(|known| known >= gateways)
    }

    fn for_plan(&self, cluster: &WsCluster, gateways: u32, now: Timestamp) -> Shard {
        let state = self.state();
        let age = match state {
            State::Draining => self.health.draining_for(),
            // While its kubelet found it ready, it was only the operator's own way to it that was broken.
            State::Silent => {
                self.health.silent_for().map(|silent| self.unready.map_or(silent, |unready| unready.min(silent)))
            }
            State::Leaving => self.leaving,
            State::Starting | State::Ready | State::Full | State::Failing => self.age,
        };
        Shard {
            ordinal: self.ordinal,
            revision: self.revision.clone(),
            state,
            connections: self.connections(cluster.spec.drain.deadline.0),
            capacity: self.capacity(cluster.spec.capacity),
            known_to_gateways: self.is_routed(gateways),
            ready: self.ready,
            since: age.map(|age| Timestamp(now.0.saturating_sub(age))),
        }
    }
}

/// The pods of one part of a cluster.
fn of(pods: &Store<Pod>, cluster: &WsCluster, part: Part) -> Vec<Arc<Pod>> {
    let selector = labels::selector(cluster, part);
    let namespace = cluster.namespace();
    pods.state_filter(|pod| {
        pod.metadata.namespace == namespace
            && selector.iter().all(|(label, value)| pod.labels().get(label) == Some(value))
    })
}

fn shard(pod: &Pod) -> Option<ShardPod> {
    let name = pod.metadata.name.clone()?;
    let ordinal = name.rsplit_once('-')?.1.parse().ok()?;
    let status = pod.status.as_ref();
    let Readiness { ready, unready, served } = readiness(pod);
    let started = status.and_then(|status| status.start_time.as_ref());
    Some(ShardPod {
        ordinal,
        uid: pod.metadata.uid.clone()?,
        revision: pod.labels().get(labels::REVISION).cloned().unwrap_or_default(),
        address: status.and_then(|status| status.pod_ip.as_ref()).and_then(|ip| ip.parse().ok()),
        ready,
        unready,
        served,
        leaving: leaving(pod),
        age: started.map(|at| ago(at.0)),
        trouble: trouble::of(pod, Part::Shard),
        health: Seen::default(),
        name,
    })
}

/// What a kubelet says of a pod.
#[derive(Default)]
struct Readiness {
    ready: bool,
    unready: Option<Duration>,
    /// Whether the process that runs in it was ready at any time: it was if it was there before the pod turned unready.
    served: bool,
}

fn readiness(pod: &Pod) -> Readiness {
    let Some(status) = &pod.status else { return Readiness::default() };
    let Some(ready) = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready") else {
        return Readiness::default();
    };
    if ready.status == "True" {
        return Readiness { ready: true, unready: None, served: true };
    }
    // What else runs in the pod may have begun before or after it.
    let name = Part::Shard.to_string();
    let own = status.container_statuses.iter().flatten().find(|container| container.name == name);
    let running = own.and_then(|container| container.state.as_ref()?.running.as_ref());
    let started = running.and_then(|running| running.started_at.as_ref());
    let turned = ready.last_transition_time.as_ref();
    let served = started.zip(turned).is_some_and(|(started, turned)| started.0 < turned.0);
    Readiness { ready: false, unready: turned.map(|turned| ago(turned.0)), served }
}

/// How long a pod has been terminating. The timestamp is when it must have ended, its grace period being over.
fn leaving(pod: &Pod) -> Option<Duration> {
    let end = pod.metadata.deletion_timestamp.as_ref()?;
    let grace = Duration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0).max(0) as u64);
    let end = SystemTime::from(end.0);
    Some(SystemTime::now().duration_since(end - grace).unwrap_or_default())
}

fn ago(at: k8s_openapi::jiff::Timestamp) -> Duration {
    SystemTime::now().duration_since(SystemTime::from(at)).unwrap_or_default()
}

/// The time as a plan knows it: since this process began to ask. A wall clock may jump, and a deadline with it.
pub fn now() -> Timestamp {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // An age reaches back behind the start: a year is as good as the beginning of time.
    Timestamp(START.elapsed() + Duration::from_hours(365 * 24))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(name: &str, state: &Value) -> Value {
        json!({ "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 3, "state": state })
    }

    fn pod_of(ready: &Value, containers: &[Value]) -> ShardPod {
        let pod = json!({ "metadata": { "name": "prices-eu-12", "uid": "u" },
            "status": { "conditions": [ready], "containerStatuses": containers, "podIP": "10.0.0.1" } });
        shard(&serde_json::from_value(pod).unwrap()).unwrap()
    }

    fn pod(ready: &Value, started: &str) -> ShardPod {
        pod_of(ready, &[container("shard", &json!({ "running": { "startedAt": started } }))])
    }

    #[test]
    fn only_its_own_container_says_whether_a_shard_is_up() {
        let (start, later) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
        let unready = json!({ "type": "Ready", "status": "False", "lastTransitionTime": later });
        let own = container("shard", &json!({ "running": { "startedAt": start } }));
        let crashes = container("proxy", &json!({ "waiting": { "reason": "CrashLoopBackOff" } }));
        let mut beside = pod_of(&unready, &[crashes, own.clone()]);
        assert_eq!(beside.state(), State::Silent, "it was ready, and was not heard of yet");
        beside.health = said("ready", 9);
        assert_eq!((beside.state(), beside.connections(Duration::MAX)), (State::Ready, 9));
        // A sidecar that was restarted since says nothing of the shard, nor does one that was there before.
        let restarted = container("proxy", &json!({ "running": { "startedAt": "2026-01-01T00:02:00Z" } }));
        assert!(pod_of(&unready, &[restarted, own]).served);
        let early = container("proxy", &json!({ "running": { "startedAt": start } }));
        let new = container("shard", &json!({ "running": { "startedAt": "2026-01-01T00:02:00Z" } }));
        assert_eq!(pod_of(&unready, &[early, new]).state(), State::Starting);
    }

    fn said(state: &str, connections: u32) -> Seen {
        let answer = json!({ "state": state, "connections": connections, "capacity": 10 });
        Seen::of(serde_json::from_value(answer).unwrap())
    }

    #[test]
    fn what_it_does_not_understand_is_not_taken_for_empty() {
        let start = "2026-01-01T00:00:00Z";
        let mut shard = pod(&json!({ "type": "Ready", "status": "True" }), start);
        for (health, state) in [
            (said("ready", 7), State::Ready),
            (said("starting", 0), State::Starting),
            (said("starting", 7), State::Silent),
            (said("resting", 7), State::Silent),
            (said("", 0), State::Silent),
        ] {
            shard.health = health;
            assert_eq!(shard.state(), state, "{:?}", shard.health);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_silent_shard_begins_when_its_kubelet_finds_it_unready() {
        let cluster = crate::build::fixtures::cluster();
        let condition = |turned: SystemTime| {
            let turned = k8s_openapi::jiff::Timestamp::try_from(turned).unwrap().to_string();
            pod(&json!({ "type": "Ready", "status": "False", "lastTransitionTime": turned }), "2026-01-01T00:00:00Z")
        };
        let silent = async |mut shard: ShardPod| {
            shard.health = Seen::silent();
            tokio::time::advance(Duration::from_mins(10)).await;
            let now = Timestamp(Duration::from_hours(10_000));
            let seen = shard.for_plan(&cluster, 0, now);
            assert_eq!(seen.state, State::Silent);
            now.since(seen.since.unwrap())
        };
        let just = silent(condition(SystemTime::now() - Duration::from_secs(5))).await;
        assert!((Duration::from_secs(4)..Duration::from_mins(5)).contains(&just), "{just:?}");
        let long = silent(condition(SystemTime::now() - Duration::from_hours(5))).await;
        assert_eq!(long, Duration::from_mins(10));
    }

    #[test]
    fn a_pod_that_should_have_ended_holds_nobody() {
        let mut shard = pod(&json!({ "type": "Ready", "status": "True" }), "2026-01-01T00:00:00Z");
        shard.health = said("draining", 7);
        shard.leaving = Some(Duration::from_secs(119));
        assert_eq!(shard.connections(Duration::from_mins(2)), 7);
        shard.leaving = Some(Duration::from_mins(2));
        assert_eq!(shard.connections(Duration::from_mins(2)), 0);
    }

    #[test]
    fn a_shard_that_was_ready_and_was_never_heard_of_is_not_taken_for_empty() {
        let (start, later) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
        let starts = pod(&json!({ "type": "Ready", "status": "False", "lastTransitionTime": start }), start);
        assert_eq!((starts.ordinal, starts.state()), (12, State::Starting));
        let ready = pod(&json!({ "type": "Ready", "status": "True", "lastTransitionTime": later }), start);
        assert_eq!((ready.ready, ready.state()), (true, State::Silent));
        let hangs = pod(&json!({ "type": "Ready", "status": "False", "lastTransitionTime": later }), start);
        assert_eq!((hangs.ready, hangs.state()), (false, State::Silent));
        let restarted = pod(&json!({ "type": "Ready", "status": "False", "lastTransitionTime": start }), later);
        assert_eq!(restarted.state(), State::Starting, "another process than the one that was ready");
    }
}
