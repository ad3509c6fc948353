//! Polls the health of every shard: one short request every few seconds per shard, with jitter, while this process
//! leads.
//!
//! The observer of a cluster determines which pods are polled. A new pod is polled at once, and the observer waits
//! briefly for its first answer. A change that matters to a plan or a status is reported at once. Changes of mere
//! numbers are reported at most every ten seconds per cluster.

mod probe_history;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use wscluster_admin::health::ShardHealth;

pub(crate) use self::probe_history::ProbeHistory;
use crate::metrics::{Metrics, PollOutcome};
use crate::shard_client::ShardClient;

/// Namespace and name of a cluster.
pub(crate) type ClusterName = (String, String);

/// Concurrent requests, over all clusters.
const AT_ONCE: usize = 64;
/// Interval for shards that start, drain or are silent.
const QUICK: Duration = Duration::from_secs(1);
/// How long an observer waits for the first answers of new pods.
const FIRST: Duration = Duration::from_secs(2);
/// Shortest interval between reports of mere numbers, per cluster.
const COUNTS: Duration = Duration::from_secs(10);

/// A pod to poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProbeTarget {
    /// Unique ID of the pod.
    pub(crate) uid: String,
    pub(crate) address: IpAddr,
}

/// Polls shards, and keeps the history of each.
#[derive(Clone, Debug)]
pub(crate) struct HealthProber(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Arc<dyn ShardClient>,
    every: Duration,
    metrics: Arc<Metrics>,
    changed: mpsc::UnboundedSender<ClusterName>,
    permits: Semaphore,
    clusters: Mutex<HashMap<ClusterName, Cluster>>,
}

#[derive(Debug, Default)]
struct Cluster {
    pods: HashMap<String, Pod>,
    /// When the last change was reported.
    reported: Option<Instant>,
}

#[derive(Debug)]
struct Pod {
    address: IpAddr,
    history: watch::Sender<ProbeHistory>,
    /// Connections in the last report.
    reported: u32,
    task: AbortHandle,
    wake: Arc<tokio::sync::Notify>,
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HealthProber {
    /// Polls about once per `every`. Clusters with changes are sent to `changed`.
    pub(crate) fn new(
        client: Arc<dyn ShardClient>,
        every: Duration,
        metrics: Arc<Metrics>,
        changed: mpsc::UnboundedSender<ClusterName>,
    ) -> Self {
        let permits = Semaphore::new(AT_ONCE);
        Self(Arc::new(Inner { client, every, metrics, changed, permits, clusters: Mutex::default() }))
    }

    pub(crate) fn client(&self) -> &dyn ShardClient {
        &*self.0.client
    }

    /// The histories of `pods`, which are all pods of the cluster. New pods are polled first.
    pub(crate) async fn of(&self, cluster: &ClusterName, pods: &[ProbeTarget]) -> HashMap<String, ProbeHistory> {
        let mut watches: Vec<_> = {
            let mut clusters = self.0.lock();
            let known = &mut clusters.entry(cluster.clone()).or_default().pods;
            // After a restart of its node a pod has the same ID and another address.
            known.retain(|uid, known| pods.iter().any(|pod| pod.uid == *uid && pod.address == known.address));
            let watch = |pod: &ProbeTarget| {
                let known = known.entry(pod.uid.clone()).or_insert_with(|| self.start(cluster, pod));
                (pod.uid.clone(), known.history.subscribe())
            };
            pods.iter().map(watch).collect()
        };
        let all = async {
            for (_, history) in &mut watches {
                // The sender of a deleted pod is gone.
                let _ = history.wait_for(ProbeHistory::is_fresh).await;
            }
        };
        // The histories of pods that have not answered by then remain as they are.
        let _ = timeout(FIRST, all).await;
        watches.into_iter().map(|(uid, history)| (uid, history.borrow().clone())).collect()
    }

    /// Notes that the operator acted on this pod: earlier answers are outdated.
    pub(crate) fn acted(&self, cluster: &ClusterName, uid: &str) {
        if let Some(pod) = self.0.lock().get_mut(cluster).and_then(|cluster| cluster.pods.get_mut(uid)) {
            pod.history.send_modify(|history| history.outdate(Instant::now()));
            pod.wake.notify_one();
        }
    }

    /// Stops polling a deleted cluster.
    pub(crate) fn forget(&self, cluster: &ClusterName) {
        self.0.lock().remove(cluster);
    }

    /// Stops polling: another process leads.
    pub(crate) fn forget_all(&self) {
        self.0.lock().clear();
    }

    fn start(&self, cluster: &ClusterName, target: &ProbeTarget) -> Pod {
        let wake = Arc::new(tokio::sync::Notify::new());
        let (inner, woken) = (Arc::clone(&self.0), Arc::clone(&wake));
        let (cluster, target) = (cluster.clone(), target.clone());
        let address = target.address;
        let task = tokio::spawn(async move {
            loop {
                let pause = inner.poll(&cluster, &target).await;
                tokio::select! {
                    () = sleep(pause) => {}
                    () = woken.notified() => {}
                }
            }
        });
        let history = watch::channel(ProbeHistory::default()).0;
        Pod { address, history, reported: 0, task: task.abort_handle(), wake }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterName, Cluster>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls once, and returns the time until the next request.
    async fn poll(&self, cluster: &ClusterName, target: &ProbeTarget) -> Duration {
        let Ok(_permit) = self.permits.acquire().await else { return self.every };
        let sent = Instant::now();
        let answer = match self.client.health(target.address).await {
            Ok(answer) => {
                self.metrics.polled(PollOutcome::Answered);
                Some(answer)
            }
            Err(error) => {
                self.metrics.polled(PollOutcome::Failed);
                tracing::debug!(%error, "shard does not answer");
                None
            }
        };
        let quick = self.record(cluster, &target.uid, answer, sent);
        let pause = if quick { QUICK.min(self.every) } else { self.every };
        pause.mul_f64(rand::random_range(0.8..1.2))
    }

    /// Records an answer and reports a change. Returns whether the next request should follow soon.
    fn record(&self, cluster: &ClusterName, uid: &str, answer: Option<ShardHealth>, sent: Instant) -> bool {
        let mut clusters = self.lock();
        let Some(Cluster { pods, reported }) = clusters.get_mut(cluster) else { return false };
        let Some(pod) = pods.get_mut(uid) else { return false };
        let before = pod.history.borrow().clone();
        pod.history.send_modify(|history| history.record(answer, sent));
        let after = pod.history.borrow().clone();
        let counts = after.connections() != pod.reported;
        let due = reported.is_none_or(|at| at.elapsed() >= COUNTS);
        // A drain waits for this.
        let emptied = before.connections() > 0 && after.connections() == 0;
        if after.differs(&before) || emptied || (counts && due) {
            *reported = Some(Instant::now());
            pod.reported = after.connections();
            // The receiver is gone only while the process ends.
            let _ = self.changed.send(cluster.clone());
        }
        after.is_moving()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;
    use wscluster_admin::drain::{Drain, EvictRequest};
    use wscluster_admin::health::State;

    use crate::shard_client::{self, ShardError};

    /// Every shard is ready with seven connections.
    #[derive(Debug)]
    struct Always;

    impl ShardClient for Always {
        fn health(&self, _: IpAddr) -> BoxFuture<'_, Result<ShardHealth, ShardError>> {
            Box::pin(async { Ok(answer(State::Ready, 7)) })
        }
        fn drain(&self, _: IpAddr, _: Drain) -> BoxFuture<'_, Result<(), ShardError>> {
            Box::pin(async { Ok(()) })
        }
        fn undrain(&self, _: IpAddr) -> BoxFuture<'_, Result<(), ShardError>> {
            Box::pin(async { Ok(()) })
        }
        fn evict(&self, _: IpAddr, _: EvictRequest) -> BoxFuture<'_, Result<(), ShardError>> {
            Box::pin(async { Ok(()) })
        }
    }

    fn prober() -> (HealthProber, mpsc::UnboundedReceiver<ClusterName>) {
        let (changed, told) = mpsc::unbounded_channel();
        (HealthProber::new(Arc::new(Always), Duration::from_secs(5), Arc::new(Metrics::new()), changed), told)
    }

    fn shop() -> ClusterName {
        ("shop".to_owned(), "prices".to_owned())
    }

    fn answer(state: State, connections: u32) -> ShardHealth {
        shard_client::health(state, connections, 100)
    }

    /// Adds a pod that is never polled; tests record its answers.
    fn known(health: &HealthProber) {
        let pod = Pod {
            address: [127, 0, 0, 1].into(),
            history: watch::channel(ProbeHistory::default()).0,
            reported: 0,
            task: tokio::spawn(std::future::pending::<()>()).abort_handle(),
            wake: Arc::default(),
        };
        health.0.lock().entry(shop()).or_default().pods.insert("u".to_owned(), pod);
    }

    fn note(health: &HealthProber, answer: Option<ShardHealth>) -> bool {
        health.0.record(&shop(), "u", answer, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn reports_changes_at_once_and_numbers_every_ten_seconds() {
        let (health, mut told) = prober();
        known(&health);
        note(&health, Some(answer(State::Ready, 0)));
        assert!(told.try_recv().is_ok(), "it became ready");
        for second in 1..60 {
            tokio::time::advance(Duration::from_secs(1)).await;
            note(&health, Some(answer(State::Ready, second)));
        }
        let counts = std::iter::from_fn(|| told.try_recv().ok()).count();
        assert_eq!(counts, 5);
        note(&health, Some(answer(State::Draining, 59)));
        assert!(told.try_recv().is_ok(), "it drains");
        note(&health, Some(answer(State::Draining, 0)));
        assert!(told.try_recv().is_ok(), "all connections have moved");
        note(&health, Some(answer(State::Draining, 0)));
        assert!(told.try_recv().is_err(), "nothing changed");
    }

    #[tokio::test(start_paused = true)]
    async fn polls_more_often_while_a_shard_moves() {
        let (health, _told) = prober();
        known(&health);
        assert!(!note(&health, Some(answer(State::Ready, 1))));
        assert!(note(&health, Some(answer(State::Draining, 1))));
        assert!(note(&health, Some(answer(State::Starting, 0))));
        assert!(note(&health, None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_from_before_an_action_is_discarded() {
        let (health, _told) = prober();
        known(&health);
        let before = Instant::now();
        note(&health, Some(answer(State::Draining, 0)));
        tokio::time::advance(Duration::from_millis(10)).await;
        health.acted(&shop(), "u");
        health.0.record(&shop(), "u", Some(answer(State::Draining, 0)), before);
        let history = |health: &HealthProber| health.0.lock()[&shop()].pods["u"].history.borrow().clone();
        assert!(!history(&health).is_fresh());
        tokio::time::advance(Duration::from_millis(10)).await;
        note(&health, Some(answer(State::Ready, 0)));
        assert!(history(&health).is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn polls_a_new_pod_before_it_returns_its_history() {
        let (health, _told) = prober();
        let target = ProbeTarget { uid: "u".to_owned(), address: [127, 0, 0, 1].into() };
        let histories = health.of(&shop(), std::slice::from_ref(&target)).await;
        assert_eq!(histories["u"].connections(), 7);
        assert!(health.of(&shop(), &[]).await.is_empty());
        assert!(health.0.lock()[&shop()].pods.is_empty(), "a deleted pod is no longer polled");
    }
}
