//! Carries out the steps of a plan that the `StatefulSet` cannot: drains, drains taken back, broken pods replaced; and rounds of
//! rebalancing.
//!
//! All at once and each bounded in time, so a silent shard holds up nothing; what failed is tried again at the next look. A pod is only
//! deleted while it is the one that was observed, and the data it held in memory is any shard's: Kafka keeps the log.

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};
use wscluster_api::WsCluster;
use wscluster_plan::{Action, Evict, Plan, State, Step};

use crate::build::names;
use crate::events::Note;
use crate::health::{ClusterName, Health};
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

impl Actor<'_> {
    async fn evict(self, evict: &Evict, pod: &ShardPod) -> Option<Note> {
        let Evict { count, rate, .. } = *evict;
        let eviction = Eviction { count, rate, retry_after: self.cluster.spec.drain.retry_after.clone() };
        if let Err(error) = self.health.reach().evict(pod.address?, eviction).await {
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
                let asked = self.health.reach().drain(pod.address?, drain).await;
                self.asked(pod, &asked).then(|| Note::normal("DrainStarted", format!("{} {}", pod.name, step.reason)))
            }
            Action::Undrain => {
                let asked = self.health.reach().undrain(pod.address?).await;
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
