//! Executes the steps of a plan that the `StatefulSet` cannot: it starts and cancels drains, replaces broken pods,
//! and starts rounds of rebalancing.
//!
//! All steps run concurrently, each with a timeout, so a silent shard delays nothing. A failed step is retried with
//! the next reconcile. A pod is deleted only if it is still the one that was observed. No data is lost with it: Kafka
//! keeps the log.

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};
use tokio::time::{Instant, timeout_at};
use wscluster_admin::drain::{Drain, EvictRequest};
use wscluster_api::WsCluster;
use wscluster_api::units::Span;
use wscluster_plan::{Action, Evict, Plan, State, Step};

use crate::build::names;
use crate::events::Note;
use crate::health::{ClusterName, HealthProber};
use crate::lease::WriteDeadline;
use crate::metrics::{ErrorCategory, Metrics, RequestOutcome};
use crate::observe::{ObservedCluster, ShardPod};
use crate::shard_client::ShardError;

/// Executes steps for one cluster.
#[derive(Clone, Copy)]
pub(crate) struct Executor<'a> {
    /// Deletes pods.
    pub(crate) client: &'a Client,
    pub(crate) health: &'a HealthProber,
    pub(crate) metrics: &'a Metrics,
    pub(crate) cluster: &'a WsCluster,
    /// Requests to shards are permitted only while the lease is held, like writes to the API server.
    pub(crate) until: &'a WriteDeadline,
}

/// Executes `plan` on the observed pods. Returns an Event for each executed step.
pub(crate) async fn execute(executor: Executor<'_>, observed: &ObservedCluster, plan: &Plan) -> Vec<Note> {
    let steps = plan.steps.iter().filter_map(|step| Some((step, observed.pod(step.ordinal)?)));
    let done = steps.map(|(step, pod)| executor.step(step, pod));
    join_all(done).await.into_iter().flatten().collect()
}

/// Executes a round of rebalancing. Returns an Event for each shard. The next round makes up for failed requests.
pub(crate) async fn rebalance(executor: Executor<'_>, observed: &ObservedCluster, round: &[Evict]) -> Vec<Note> {
    let shards = round.iter().filter_map(|evict| Some((evict, observed.pod(evict.ordinal)?)));
    let done = shards.map(|(evict, pod)| executor.evict(evict, pod));
    join_all(done).await.into_iter().flatten().collect()
}

/// Executes only those steps of `plan` that cancel a drain; the others require objects that cannot be applied now.
pub(crate) async fn cancel_drains(executor: Executor<'_>, observed: &ObservedCluster, plan: &Plan) -> Vec<Note> {
    let cancels = |step: &&Step| step.action == Action::Undrain;
    let steps = plan.steps.iter().filter(cancels).filter_map(|step| Some((step, observed.pod(step.ordinal)?)));
    let done = steps.map(|(step, pod)| executor.step(step, pod));
    join_all(done).await.into_iter().flatten().collect()
}

impl Executor<'_> {
    /// Sends a request while the lease is held, and abandons it when the lease ends. `None` without the lease: another
    /// operator may be sending requests.
    async fn fenced(self, request: impl Future<Output = Result<(), ShardError>>) -> Option<Result<(), ShardError>> {
        let until = (*self.until.borrow()).filter(|until| Instant::now() < *until)?;
        timeout_at(until, request).await.ok()
    }

    async fn evict(self, evict: &Evict, pod: &ShardPod) -> Option<Note> {
        let Evict { count, rate, .. } = *evict;
        let retry_after = self.cluster.spec.drain.retry_after.clone();
        let eviction = EvictRequest { count, evict_rate: rate, retry_after };
        if let Err(error) = self.fenced(self.health.client().evict(pod.address?, eviction)).await? {
            self.metrics.evicted(RequestOutcome::Failed);
            tracing::warn!(pod = pod.name, %error, "failed to rebalance a shard");
            return None;
        }
        self.metrics.evicted(RequestOutcome::Accepted);
        let connections = pod.health.connections();
        let text = format!("{} moves {count} of {connections} connections to emptier shards, {rate}/s", pod.name);
        Some(Note::normal("Rebalancing", text))
    }

    async fn step(self, step: &Step, pod: &ShardPod) -> Option<Note> {
        let drains = pod.state() == State::Draining;
        let note = |reason: &'static str| Note::normal(reason, format!("{} {}", pod.name, step.reason));
        match step.action {
            Action::Drain { .. } if drains => None,
            Action::Undrain if !drains => None,
            Action::Drain { rate, deadline } => {
                let retry_after = self.cluster.spec.drain.retry_after.clone();
                let drain = Drain { evict_rate: rate, deadline: Span(deadline), retry_after };
                let answer = self.fenced(self.health.client().drain(pod.address?, drain)).await?;
                self.is_accepted(pod, &answer).then(|| note("DrainStarted"))
            }
            Action::Undrain => {
                let answer = self.fenced(self.health.client().undrain(pod.address?)).await?;
                self.is_accepted(pod, &answer).then(|| note("DrainTakenBack"))
            }
            // A StatefulSet replaces a ready pod by itself, but waits for a pod that is not ready.
            Action::Restart if !pod.ready && pod.leaving.is_none() => {
                self.replace(pod).await.then(|| note("ShardReplaced"))
            }
            Action::Wait | Action::Remove | Action::Restart => None,
        }
    }

    /// Records the answer to a drain request.
    fn is_accepted(self, pod: &ShardPod, answer: &Result<(), ShardError>) -> bool {
        let cluster: ClusterName = (names::namespace(self.cluster), names::cluster(self.cluster));
        // Also after a failure: the shard may have received the request.
        self.health.acted(&cluster, &pod.uid);
        match answer {
            Ok(()) => self.metrics.drained(RequestOutcome::Accepted),
            Err(error) => {
                self.metrics.drained(RequestOutcome::Failed);
                tracing::warn!(namespace = cluster.0, cluster = cluster.1, pod = pod.name, %error, "failed to reach a shard");
            }
        }
        answer.is_ok()
    }

    /// Deletes a pod. Returns whether it was deleted by this call.
    async fn replace(self, pod: &ShardPod) -> bool {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &names::namespace(self.cluster));
        let only = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
        match api.delete(&pod.name, &DeleteParams::default().preconditions(only)).await {
            Ok(_) => true,
            // The pod is gone, or another one has its name by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => false,
            Err(error) => {
                self.metrics.failed(ErrorCategory::PodNotDeleted);
                tracing::warn!(pod = pod.name, %error, "failed to delete a pod");
                false
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
    use wscluster_admin::health::{self, ShardHealth};
    use wscluster_plan::{Reason, UndrainCause};

    use super::*;
    use crate::build::fixtures;
    use crate::health::ProbeHistory;
    use crate::shard_client::{self, ShardClient};

    /// Shards that count requests.
    #[derive(Debug, Default)]
    struct CountingShards(AtomicU32);

    impl CountingShards {
        fn count(&self) -> BoxFuture<'_, Result<(), ShardError>> {
            Box::pin(async {
                self.0.fetch_add(1, Relaxed);
                Ok(())
            })
        }
    }

    impl ShardClient for CountingShards {
        fn health(&self, _: IpAddr) -> BoxFuture<'_, Result<ShardHealth, ShardError>> {
            Box::pin(async { Err(ShardError::Missing) })
        }
        fn drain(&self, _: IpAddr, _: Drain) -> BoxFuture<'_, Result<(), ShardError>> {
            self.count()
        }
        fn undrain(&self, _: IpAddr) -> BoxFuture<'_, Result<(), ShardError>> {
            self.count()
        }
        fn evict(&self, _: IpAddr, _: EvictRequest) -> BoxFuture<'_, Result<(), ShardError>> {
            self.count()
        }
    }

    fn pod(ordinal: u32, state: health::State) -> ShardPod {
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
            problem: None,
            health: ProbeHistory::of(shard_client::health(state, 9, 10)),
        }
    }

    /// Counts the requests of a plan with one step of each kind and a round of rebalancing.
    async fn asked(until: Option<Instant>) -> u32 {
        let (_hold, until) = watch::channel(until);
        let (shards, metrics) = (Arc::new(CountingShards::default()), Arc::new(Metrics::new()));
        let (changed, _changes) = mpsc::unbounded_channel();
        let health = HealthProber::new(Arc::clone(&shards) as _, Duration::from_secs(5), Arc::clone(&metrics), changed);
        let service = tower::service_fn(async |_: hyper::Request<kube::client::Body>| {
            Ok::<_, std::convert::Infallible>(hyper::Response::new(kube::client::Body::empty()))
        });
        let client = Client::new(service, "market");
        let cluster = fixtures::cluster();
        let executor =
            Executor { client: &client, health: &health, metrics: &metrics, cluster: &cluster, until: &until };
        let observed = ObservedCluster {
            shards: vec![pod(0, health::State::Draining), pod(1, health::State::Ready)],
            ..ObservedCluster::default()
        };
        let reason = Reason::Undrains { connections: 9, cause: UndrainCause::Wanted };
        let drain = Action::Drain { rate: 1, deadline: Duration::from_secs(1) };
        let steps = [(0, Action::Undrain), (1, drain)]
            .map(|(ordinal, action)| Step { ordinal, action, reason: reason.clone() })
            .into();
        let plan = Plan { replicas: 2, partition: 0, steps, blocked: None, look_again: None };
        let notes = execute(executor, &observed, &plan).await.len();
        let notes = notes + rebalance(executor, &observed, &[Evict { ordinal: 1, count: 1, rate: 1 }]).await.len();
        let asked = shards.0.load(Relaxed);
        assert_eq!(notes, asked as usize, "only executed steps have an Event");
        asked
    }

    #[tokio::test(start_paused = true)]
    async fn sends_no_request_to_shards_after_the_lease_has_ended() {
        assert_eq!(asked(Some(Instant::now() + Duration::from_secs(5))).await, 3);
        assert_eq!(asked(Some(Instant::now())).await, 0);
        assert_eq!(asked(None).await, 0);
    }
}
