//! Observes one cluster: the objects in the watch caches, and the health that the shards report.
//!
//! Reads caches, polls the health of new shards, and asks the API server only why pods are missing. Decides nothing.

mod missing;
mod problem;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::time::Instant;
use wscluster_admin::health::State as ShardState;
use wscluster_api::WsCluster;
use wscluster_plan::{Shard, State, Timestamp};

pub(crate) use self::missing::{MissingPods, refusal};
pub(crate) use self::problem::{PodProblem, ProblemKind};
use crate::build::names;
use crate::build::{Part, labels};
use crate::caches::Caches;
use crate::health::{HealthProber, ProbeHistory, ProbeTarget};

/// The observed state of one cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObservedCluster {
    /// The `StatefulSet` of the shards.
    pub(crate) stateful_set: Option<Arc<StatefulSet>>,
    /// The `Deployment` of the gateways.
    pub(crate) deployment: Option<Arc<Deployment>>,
    /// Pods of shards, sorted by ordinal.
    pub(crate) shards: Vec<ShardPod>,
    /// The problem of a gateway pod.
    pub(crate) gateway_problem: Option<PodProblem>,
    /// Why pods of shards are missing, as reported by Kubernetes.
    pub(crate) refused: Option<String>,
}

/// The pod of a shard.
#[derive(Clone, Debug)]
pub(crate) struct ShardPod {
    pub(crate) name: String,
    /// Unique ID of the pod.
    pub(crate) uid: String,
    /// Position in the `StatefulSet`.
    pub(crate) ordinal: u32,
    /// Revision of its pod template.
    pub(crate) revision: String,
    /// Its IP address, once it has one.
    pub(crate) address: Option<IpAddr>,
    /// Whether the kubelet reports it as Ready.
    pub(crate) ready: bool,
    /// Time since it was last Ready, if it is not.
    pub(crate) unready: Option<Duration>,
    /// Whether its process has ever been Ready according to the kubelet: it may hold connections.
    pub(crate) served: bool,
    /// How long it has been terminating.
    pub(crate) leaving: Option<Duration>,
    /// Time since its start.
    pub(crate) age: Option<Duration>,
    pub(crate) problem: Option<PodProblem>,
    pub(crate) health: ProbeHistory,
}

/// Observes `cluster`. Does not find out why pods are missing.
pub(crate) async fn observe(cluster: &WsCluster, caches: &Caches, health: &HealthProber) -> ObservedCluster {
    let namespace = names::namespace(cluster);
    let key = (namespace.clone(), names::cluster(cluster));
    let mut shards: Vec<ShardPod> =
        of(&caches.pods, cluster, Part::Shard).iter().filter_map(|pod| shard(pod)).collect();
    // Of two pods with the same ordinal, keep the terminating one: the other cannot have started.
    shards.sort_by_key(|pod| (pod.ordinal, pod.leaving.is_none()));
    shards.dedup_by_key(|pod| pod.ordinal);
    let targets: Vec<_> =
        shards.iter().filter_map(|pod| Some(ProbeTarget { uid: pod.uid.clone(), address: pod.address? })).collect();
    let mut histories: HashMap<String, ProbeHistory> = health.of(&key, &targets).await;
    for pod in &mut shards {
        pod.health = histories.remove(&pod.uid).unwrap_or_default();
    }
    let gateways = of(&caches.pods, cluster, Part::Gateway);
    ObservedCluster {
        stateful_set: caches.stateful_sets.get(&ObjectRef::new(&key.1).within(&namespace)),
        deployment: caches.deployments.get(&ObjectRef::new(&names::part(cluster, Part::Gateway)).within(&namespace)),
        shards,
        gateway_problem: gateways
            .iter()
            .filter(|pod| leaving(pod).is_none())
            .find_map(|pod| problem::of(pod, Part::Gateway)),
        refused: None,
    }
}

impl ObservedCluster {
    /// The input of a plan.
    pub(crate) fn for_plan(&self, cluster: &WsCluster, now: Timestamp) -> wscluster_plan::Observed {
        let gateways = self.ready_gateways();
        let shards = self.shards.iter().map(|pod| pod.for_plan(cluster, gateways, now)).collect();
        wscluster_plan::Observed { replicas: self.replicas().unwrap_or(0), reconnecting: 0, shards }
    }

    /// `replicas` of the `StatefulSet`.
    pub(crate) fn replicas(&self) -> Option<u32> {
        let set = self.stateful_set.as_ref()?;
        Some(set.spec.as_ref()?.replicas.unwrap_or(1).max(0) as u32)
    }

    fn ready_gateways(&self) -> u32 {
        let status = self.deployment.as_ref().and_then(|deployment| deployment.status.as_ref());
        status.and_then(|status| status.ready_replicas).unwrap_or(0).max(0) as u32
    }

    /// Time until the next terminating pod should be gone, given the `grace` period of pods.
    pub(crate) fn termination_due(&self, grace: Duration) -> Option<Duration> {
        let left = |pod: &ShardPod| grace.checked_sub(pod.leaving?).filter(|left| !left.is_zero());
        self.shards.iter().filter_map(left).min()
    }

    pub(crate) fn pod(&self, ordinal: u32) -> Option<&ShardPod> {
        self.shards.iter().find(|pod| pod.ordinal == ordinal)
    }
}

impl ShardPod {
    /// The state of the shard, as far as it is known.
    pub(crate) fn state(&self) -> State {
        if self.leaving.is_some() {
            return State::Leaving;
        }
        if self.problem.as_ref().is_some_and(|problem| problem.is_down) {
            return State::Failing;
        }
        let Some(answer) = self.health.answer() else {
            // A restarted operator has no answer yet, and must not treat the shard as empty.
            return if self.served { State::Silent } else { State::Starting };
        };
        // An answer from before the operator's last action is outdated.
        if self.health.silent_for().is_some() || !self.health.is_fresh() {
            return State::Silent;
        }
        match answer.state {
            ShardState::Ready => State::Ready,
            ShardState::Full => State::Full,
            ShardState::Draining => State::Draining,
            ShardState::Starting if answer.connections == 0 => State::Starting,
            ShardState::Starting => State::Silent,
        }
    }

    /// Connections that it holds, as far as is known. Zero if no process runs, or if the pod should have terminated
    /// `deadline` after it was asked to, because its node is lost then.
    pub(crate) fn connections(&self, deadline: Duration) -> u32 {
        let is_over = self.state() == State::Failing || self.leaving.is_some_and(|leaving| leaving >= deadline);
        if is_over { 0 } else { self.health.connections() }
    }

    /// Whether it serves clients, according to itself and to the kubelet.
    pub(crate) fn serves(&self) -> bool {
        self.ready && matches!(self.state(), State::Ready | State::Full)
    }

    /// Connections that it may hold: as reported, or else `default`.
    pub(crate) fn capacity(&self, default: u32) -> u32 {
        self.health.answer().map_or(default, |answer| answer.capacity)
    }

    /// Whether at least this many gateways route to it.
    fn is_known_to(&self, gateways: u32) -> bool {
        self.health.answer().is_none_or(|answer| answer.gateways >= gateways)
    }

    fn for_plan(&self, cluster: &WsCluster, gateways: u32, now: Timestamp) -> Shard {
        let state = self.state();
        let age = match state {
            State::Draining => self.health.draining_for(),
            // While the pod was Ready, only the operator had lost contact.
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
            known_to_gateways: self.is_known_to(gateways),
            pod_ready: self.ready,
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
        problem: problem::of(pod, Part::Shard),
        health: ProbeHistory::default(),
        name,
    })
}

/// The readiness of a pod according to its kubelet.
#[derive(Default)]
struct Readiness {
    ready: bool,
    unready: Option<Duration>,
    /// Whether the running process was ever ready: it was if it had been running when the pod became unready.
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
    // Only the shard's own container counts; others may have started earlier or later.
    let name = Part::Shard.to_string();
    let own = status.container_statuses.iter().flatten().find(|container| container.name == name);
    let running = own.and_then(|container| container.state.as_ref()?.running.as_ref());
    let started = running.and_then(|running| running.started_at.as_ref());
    let turned = ready.last_transition_time.as_ref();
    let served = started.zip(turned).is_some_and(|(started, turned)| started.0 < turned.0);
    Readiness { ready: false, unready: turned.map(|turned| ago(turned.0)), served }
}

/// How long a pod has been terminating. `deletionTimestamp` is the end of its grace period.
fn leaving(pod: &Pod) -> Option<Duration> {
    let end = pod.metadata.deletion_timestamp.as_ref()?;
    let grace = Duration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0).max(0) as u64);
    let end = SystemTime::from(end.0);
    Some(SystemTime::now().duration_since(end - grace).unwrap_or_default())
}

fn ago(at: k8s_openapi::jiff::Timestamp) -> Duration {
    SystemTime::now().duration_since(SystemTime::from(at)).unwrap_or_default()
}

/// The current time for a plan, on a monotonic clock: a wall clock may jump, and deadlines with it.
pub(crate) fn now() -> Timestamp {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // The offset leaves room for ages that reach back behind the start of the process.
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
    fn only_the_container_of_the_shard_determines_whether_it_is_up() {
        let (start, later) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
        let unready = json!({ "type": "Ready", "status": "False", "lastTransitionTime": later });
        let own = container("shard", &json!({ "running": { "startedAt": start } }));
        let crashes = container("proxy", &json!({ "waiting": { "reason": "CrashLoopBackOff" } }));
        let mut beside = pod_of(&unready, &[crashes, own.clone()]);
        assert_eq!(beside.state(), State::Silent, "it was Ready and has not answered yet");
        beside.health = reported(ShardState::Ready, 9);
        assert_eq!((beside.state(), beside.connections(Duration::MAX)), (State::Ready, 9));
        // Only the start of the shard's own container counts, whether a sidecar has started later or earlier.
        let restarted = container("proxy", &json!({ "running": { "startedAt": "2026-01-01T00:02:00Z" } }));
        assert!(pod_of(&unready, &[restarted, own]).served);
        let early = container("proxy", &json!({ "running": { "startedAt": start } }));
        let new = container("shard", &json!({ "running": { "startedAt": "2026-01-01T00:02:00Z" } }));
        assert_eq!(pod_of(&unready, &[early, new]).state(), State::Starting);
    }

    fn reported(state: ShardState, connections: u32) -> ProbeHistory {
        ProbeHistory::of(crate::shard_client::health(state, connections, 10))
    }

    #[test]
    fn a_starting_shard_with_connections_is_not_treated_as_empty() {
        let start = "2026-01-01T00:00:00Z";
        let mut shard = pod(&json!({ "type": "Ready", "status": "True" }), start);
        for (health, state) in [
            (reported(ShardState::Ready, 7), State::Ready),
            (reported(ShardState::Starting, 0), State::Starting),
            (reported(ShardState::Starting, 7), State::Silent),
        ] {
            shard.health = health;
            assert_eq!(shard.state(), state, "{:?}", shard.health);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_when_the_pod_became_unready() {
        let cluster = crate::build::fixtures::cluster();
        let condition = |turned: SystemTime| {
            let turned = k8s_openapi::jiff::Timestamp::try_from(turned).unwrap().to_string();
            pod(&json!({ "type": "Ready", "status": "False", "lastTransitionTime": turned }), "2026-01-01T00:00:00Z")
        };
        let silent = async |mut shard: ShardPod| {
            shard.health = ProbeHistory::silent();
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
    fn an_overdue_pod_holds_no_connections() {
        let mut shard = pod(&json!({ "type": "Ready", "status": "True" }), "2026-01-01T00:00:00Z");
        shard.health = reported(ShardState::Draining, 7);
        shard.leaving = Some(Duration::from_secs(119));
        assert_eq!(shard.connections(Duration::from_mins(2)), 7);
        shard.leaving = Some(Duration::from_mins(2));
        assert_eq!(shard.connections(Duration::from_mins(2)), 0);
    }

    #[test]
    fn a_shard_that_was_ready_and_never_answered_is_not_treated_as_empty() {
        let (start, later) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
        let starts = pod(&json!({ "type": "Ready", "status": "False", "lastTransitionTime": start }), start);
        assert_eq!((starts.ordinal, starts.state()), (12, State::Starting));
        let ready = pod(&json!({ "type": "Ready", "status": "True", "lastTransitionTime": later }), start);
        assert_eq!((ready.ready, ready.state()), (true, State::Silent));
        let hangs = pod(&json!({ "type": "Ready", "status": "False", "lastTransitionTime": later }), start);
        assert_eq!((hangs.ready, hangs.state()), (false, State::Silent));
        let restarted = pod(&json!({ "type": "Ready", "status": "False", "lastTransitionTime": start }), later);
        assert_eq!(restarted.state(), State::Starting, "a new process, which was never ready");
    }
}
