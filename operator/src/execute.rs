//! Carries out the steps of a plan that the `StatefulSet` cannot: drains, drains taken back, broken pods replaced; and rounds of
//! rebalancing.
//!
//! All at once and each bounded in time, so a silent shard holds up nothing; what failed is tried again at the next look. A pod is only
//! deleted while it is the one that was observed, and the data it held in memory is any shard's: Kafka keeps the log.

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};
use tokio::time::{Instant, timeout_at};
use wscluster_api::WsCluster;
use wscluster_plan::{Action, Evict, Plan, State, Step};

use crate::build::names;
use crate::events::Note;
use crate::health::{ClusterName, Health};
use crate::lease::Until;
use crate::metrics::Metrics;
use crate::observe::{Observed, ShardPod};
use crate::shard::{Drain, Eviction, ShardError};

/// What acts need.
#[derive(Clone, Copy)]
pub struct Actor<'a> {
    /// To delete pods.
    pub client: &'a Client,
    /// Forgets what shards said before.
    pub health: &'a Health,
    /// Counts.
    pub metrics: &'a Metrics,
    /// Whose shards.
    pub cluster: &'a WsCluster,
    /// Until when this process may act: what it asks of shards is fenced like what it writes.
    pub until: &'a Until,
}

/// Carries out `plan` on what was observed, and tells what was done.
pub async fn act(actor: Actor<'_>, observed: &Observed, plan: &Plan) -> Vec<Note> {
    let steps = plan.steps.iter().filter_map(|step| Some((step, observed.pod(step.ordinal)?)));
    let done = steps.map(|(step, pod)| actor.step(step, pod));
    join_all(done).await.into_iter().flatten().collect()
}

/// Asks for a round of rebalancing, and tells what was asked. What was not heard is left to the next round.
pub async fn rebalance(actor: Actor<'_>, observed: &Observed, round: &[Evict]) -> Vec<Note> {
    let shards = round.iter().filter_map(|evict| Some((evict, observed.pod(evict.ordinal)?)));
    let done = shards.map(|(evict, pod)| actor.evict(evict, pod));
    join_all(done).await.into_iter().flatten().collect()
}

/// Carries out only those steps of `plan` that take a drain back: the others need objects that cannot be applied now.
pub async fn take_back(actor: Actor<'_>, observed: &Observed, plan: &Plan) -> Vec<Note> {
    let is_back = |step: &&Step| step.action == Action::Undrain;
    let steps = plan.steps.iter().filter(is_back).filter_map(|step| Some((step, observed.pod(step.ordinal)?)));
    let done = steps.map(|(step, pod)| actor.step(step, pod));
    join_all(done).await.into_iter().flatten().collect()
}

impl Actor<'_> {
    /// Asks a shard for something while the lease is held, and gives up when it ends. None: another operator may be asking.
    async fn fenced(self, ask: impl Future<Output = Result<(), ShardError>>) -> Option<Result<(), ShardError>> {
        let until = (*self.until.borrow()).filter(|until| Instant::now() < *until)?;
        timeout_at(until, ask).await.ok()
    }

    async fn evict(self, evict: &Evict, pod: &ShardPod) -> Option<Note> {
        let Evict { count, rate, .. } = *evict;
        let eviction = Eviction { count, rate, retry_after: self.cluster.spec.drain.retry_after.clone() };
        if let Err(error) = self.fenced(self.health.reach().evict(pod.address?, eviction)).await? {
            self.metrics.evicted("failed");
            tracing::warn!(pod = pod.name, %error, "shard not rebalanced");
            return None;
        }
        self.metrics.evicted("accepted");
        let connections = pod.health.connections();
        let text = format!("{} moves {count} of {connections} connections to emptier shards, {rate}/s", pod.name);
        Some(Note::normal("Rebalancing", text))
    }

    async fn step(self, step: &Step, pod: &ShardPod) -> Option<Note> {
        let drains = pod.state() == State::Draining;
        match step.action {
            Action::Drain { .. } if drains => None,
            Action::Undrain if !drains => None,
            Action::Drain { rate, deadline } => {
                let drain = Drain { rate, deadline, retry_after: self.cluster.spec.drain.retry_after.clone() };
                let asked = self.fenced(self.health.reach().drain(pod.address?, drain)).await?;
                self.asked(pod, &asked).then(|| Note::normal("DrainStarted", format!("{} {}", pod.name, step.reason)))
            }
            Action::Undrain => {
                let asked = self.fenced(self.health.reach().undrain(pod.address?)).await?;
                self.asked(pod, &asked).then(|| Note::normal("DrainTakenBack", format!("{} {}", pod.name, step.reason)))
            }
            // A StatefulSet replaces a pod that is ready; one that is not, it waits for.
            Action::Restart if !pod.ready && pod.leaving.is_none() => self.replace(step, pod).await,
            Action::Wait | Action::Remove | Action::Restart => None,
        }
    }

    /// Notes that a shard was asked for something, and says whether it agreed.
    fn asked(self, pod: &ShardPod, asked: &Result<(), ShardError>) -> bool {
        let cluster: ClusterName = (names::namespace(self.cluster), names::cluster(self.cluster));
        // Also after a failure: the shard may have heard it.
        self.health.acted(&cluster, &pod.uid);
        match asked {
            Ok(()) => self.metrics.drained("accepted"),
            Err(error) => {
                self.metrics.drained("failed");
                tracing::warn!(namespace = cluster.0, cluster = cluster.1, pod = pod.name, %error, "shard not reached");
            }
        }
        asked.is_ok()
    }

    async fn replace(self, step: &Step, pod: &ShardPod) -> Option<Note> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &names::namespace(self.cluster));
        let only = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
        match api.delete(&pod.name, &DeleteParams::default().preconditions(only)).await {
            Ok(_) => Some(Note::normal("ShardReplaced", format!("{} {}", pod.name, step.reason))),
            // It is gone, or another one by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => None,
            Err(error) => {
                self.metrics.failed("delete_pod");
                tracing::warn!(pod = pod.name, %error, "pod not deleted");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::time::Duration;

    use futures_util::future::BoxFuture;
    use tokio::sync::{mpsc, watch};
    use wscluster_plan::{Back, Reason};

    use super::*;
    use crate::build::fixtures;
    use crate::health::Seen;
    use crate::shard::{Answer, Reach};

    /// Shards that count what they are asked for.
    #[derive(Debug, Default)]
    struct Asked(AtomicU32);

    impl Asked {
        fn count(&self) -> BoxFuture<'_, Result<(), ShardError>> {
            Box::pin(async {
                self.0.fetch_add(1, Relaxed);
                Ok(())
            })
        }
    }

    impl Reach for Asked {
        fn health(&self, _: IpAddr) -> BoxFuture<'_, Result<Answer, ShardError>> {
            Box::pin(async { Err(ShardError::of("not asked")) })
        }
        fn drain(&self, _: IpAddr, _: Drain) -> BoxFuture<'_, Result<(), ShardError>> {
            self.count()
        }
        fn undrain(&self, _: IpAddr) -> BoxFuture<'_, Result<(), ShardError>> {
            self.count()
        }
        fn evict(&self, _: IpAddr, _: Eviction) -> BoxFuture<'_, Result<(), ShardError>> {
            self.count()
        }
    }

    fn pod(ordinal: u32, state: &str) -> ShardPod {
        let answer = serde_json::json!({ "state": state, "connections": 9, "capacity": 10 });
        ShardPod {
            name: format!("prices-{ordinal}"),
            uid: format!("uid-{ordinal}"),
            ordinal,
            revision: "a".to_owned(),
            address: Some([10, 0, 0, ordinal as u8].into()),
            ready: true,
            served: true,
            unready: None,
            leaving: None,
            age: None,
            trouble: None,
            health: Seen::of(serde_json::from_value(answer).unwrap()),
        }
    }

    /// What shards are asked for by a plan with one step of each kind, and a round of rebalancing.
    async fn asked(until: Option<Instant>) -> u32 {
        let (_hold, until) = watch::channel(until);
        let (shards, metrics) = (Arc::new(Asked::default()), Arc::new(Metrics::new()));
        let (changed, _told) = mpsc::unbounded_channel();
        let health = Health::new(Arc::clone(&shards) as _, Duration::from_secs(5), Arc::clone(&metrics), changed);
        let service = tower::service_fn(async |_: hyper::Request<kube::client::Body>| {
            Ok::<_, std::convert::Infallible>(hyper::Response::new(kube::client::Body::empty()))
        });
        let client = Client::new(service, "market");
        let cluster = fixtures::cluster();
        let actor = Actor { client: &client, health: &health, metrics: &metrics, cluster: &cluster, until: &until };
        let observed = Observed { shards: vec![pod(0, "draining"), pod(1, "ready")], ..Observed::default() };
        let reason = Reason::Back { connections: 9, why: Back::Wanted };
        let drain = Action::Drain { rate: 1, deadline: Duration::from_secs(1) };
        let steps = [(0, Action::Undrain), (1, drain)]
            .map(|(ordinal, action)| Step { ordinal, action, reason: reason.clone() })
            .into();
        let plan = Plan { replicas: 2, partition: 0, steps, blocked: None, look_again: None };
        let told = act(actor, &observed, &plan).await.len();
        let told = told + rebalance(actor, &observed, &[Evict { ordinal: 1, count: 1, rate: 1 }]).await.len();
        let asked = shards.0.load(Relaxed);
        assert_eq!(told, asked as usize, "only what was done is told");
        asked
    }

    #[tokio::test(start_paused = true)]
    async fn asks_nothing_of_shards_once_the_lease_has_ended() {
        assert_eq!(asked(Some(Instant::now() + Duration::from_secs(5))).await, 3);
        assert_eq!(asked(Some(Instant::now())).await, 0);
        assert_eq!(asked(None).await, 0);
    }
}
