//! Asks every shard how it is, politely: one short request every few seconds each, at no fixed beat, only while this process leads.
//!
//! Whoever observes a cluster says which pods there are; a pod that was never asked is asked at once, and waited for briefly. What
//! matters to a plan or a status is told at once; that mere counts moved is told at most every ten seconds a cluster.

mod seen;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

pub use self::seen::Seen;
use crate::metrics::Metrics;
use crate::shard::{Answer, Reach};

/// Namespace and name of a cluster.
pub type ClusterName = (String, String);

/// Requests under way at once, all clusters together.
const AT_ONCE: usize = 64;
/// A shard that starts, drains or is silent is asked this often.
const QUICK: Duration = Duration::from_secs(1);
/// How long an observer waits for the first answers of new pods.
const FIRST: Duration = Duration::from_secs(2);
/// Counts are told no more often than this, a cluster.
const COUNTS: Duration = Duration::from_secs(10);

/// A pod to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Unique id of the pod.
    pub uid: String,
    /// Where it is.
    pub address: IpAddr,
}

/// What is known of the health of all shards.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    reach: Arc<dyn Reach>,
    every: Duration,
    metrics: Arc<Metrics>,
    changed: mpsc::UnboundedSender<ClusterName>,
    permits: Semaphore,
    clusters: Mutex<HashMap<ClusterName, Cluster>>,
}

#[derive(Debug, Default)]
struct Cluster {
    pods: HashMap<String, Pod>,
    /// When counts were last told.
    told: Option<Instant>,
}

#[derive(Debug)]
struct Pod {
    address: IpAddr,
    seen: watch::Sender<Seen>,
    /// Connections as they were last told.
    told: u32,
    task: AbortHandle,
    wake: Arc<tokio::sync::Notify>,
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Health {
    /// Asks about every `every`, by `reach`; names of clusters where something moved go to `changed`.
    pub fn new(
        reach: Arc<dyn Reach>,
        every: Duration,
        metrics: Arc<Metrics>,
        changed: mpsc::UnboundedSender<ClusterName>,
    ) -> Self {
        let permits = Semaphore::new(AT_ONCE);
        Self(Arc::new(Inner { reach, every, metrics, changed, permits, clusters: Mutex::default() }))
    }

    /// How shards are reached.
    pub fn reach(&self) -> &dyn Reach {
        &*self.0.reach
    }

    /// What is known of `pods`, which are all of the cluster's. New ones are asked first.
    pub async fn of(&self, cluster: &ClusterName, pods: &[Target]) -> HashMap<String, Seen> {
        let mut watches: Vec<_> = {
            let mut clusters = self.0.lock();
            let known = &mut clusters.entry(cluster.clone()).or_default().pods;
            // A pod whose node was restarted keeps its id and has another address.
            known.retain(|uid, known| pods.iter().any(|pod| pod.uid == *uid && pod.address == known.address));
            let watch = |pod: &Target| {
                let known = known.entry(pod.uid.clone()).or_insert_with(|| self.ask(cluster, pod));
                (pod.uid.clone(), known.seen.subscribe())
            };
            pods.iter().map(watch).collect()
        };
        let all = async {
            for (_, seen) in &mut watches {
                // A sender that is gone belongs to a pod that is gone.
                let _ = seen.wait_for(Seen::is_fresh).await;
            }
        };
        // Whoever has not answered by now is as it was last seen.
        let _ = timeout(FIRST, all).await;
        watches.into_iter().map(|(uid, seen)| (uid, seen.borrow().clone())).collect()
    }

    /// The operator asked something of this pod: what it said before says nothing any more.
    pub fn acted(&self, cluster: &ClusterName, uid: &str) {
        if let Some(pod) = self.0.lock().get_mut(cluster).and_then(|cluster| cluster.pods.get_mut(uid)) {
            pod.seen.send_modify(|seen| seen.outdate(Instant::now()));
            pod.wake.notify_one();
        }
    }

    /// The cluster is gone.
    pub fn forget(&self, cluster: &ClusterName) {
        self.0.lock().remove(cluster);
    }

    /// Another process asks from now on.
    pub fn forget_all(&self) {
        self.0.lock().clear();
    }

    fn ask(&self, cluster: &ClusterName, target: &Target) -> Pod {
        let wake = Arc::new(tokio::sync::Notify::new());
        let (inner, woken) = (Arc::clone(&self.0), Arc::clone(&wake));
        let (cluster, target) = (cluster.clone(), target.clone());
        let address = target.address;
        let task = tokio::spawn(async move {
            loop {
                let pause = inner.round(&cluster, &target).await;
                tokio::select! {
                    () = sleep(pause) => {}
                    () = woken.notified() => {}
                }
            }
        });
        Pod { address, seen: watch::channel(Seen::default()).0, told: 0, task: task.abort_handle(), wake }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterName, Cluster>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks once, and says when to ask again.
    async fn round(&self, cluster: &ClusterName, target: &Target) -> Duration {
        let Ok(_permit) = self.permits.acquire().await else { return self.every };
        let sent = Instant::now();
        let answer = match self.reach.health(target.address).await {
            Ok(answer) => {
                self.metrics.polled("answered");
                Some(answer)
            }
            Err(error) => {
                self.metrics.polled("silent");
                tracing::debug!(%error, "shard is silent");
                None
            }
        };
        let quick = self.note(cluster, &target.uid, answer, sent);
        let pause = if quick { QUICK.min(self.every) } else { self.every };
        pause.mul_f64(rand::random_range(0.8..1.2))
    }

    /// Takes an answer in, tells whom it concerns, and says whether to ask again soon.
    fn note(&self, cluster: &ClusterName, uid: &str, answer: Option<Answer>, sent: Instant) -> bool {
        let mut clusters = self.lock();
        let Some(Cluster { pods, told }) = clusters.get_mut(cluster) else { return false };
        let Some(pod) = pods.get_mut(uid) else { return false };
        let before = pod.seen.borrow().clone();
        pod.seen.send_modify(|seen| seen.take(answer, sent));
        let after = pod.seen.borrow().clone();
        let counts = after.connections() != pod.told;
        let due = told.is_none_or(|at| at.elapsed() >= COUNTS);
        // Nobody left is what a drain waits for.
        let emptied = before.connections() > 0 && after.connections() == 0;
        if after.differs(&before) || emptied || (counts && due) {
            *told = Some(Instant::now());
            pod.told = after.connections();
            // Nobody listens when the process ends.
            let _ = self.changed.send(cluster.clone());
        }
        after.is_moving()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use serde_json::json;

    use super::*;
    use crate::shard::{Drain, Eviction, ShardError};

    /// Shards that serve seven clients.
    #[derive(Debug)]
    struct Always;

    impl Reach for Always {
        fn health(&self, _: IpAddr) -> BoxFuture<'_, Result<Answer, ShardError>> {
            Box::pin(async { Ok(answer("ready", 7)) })
        }
        fn drain(&self, _: IpAddr, _: Drain) -> BoxFuture<'_, Result<(), ShardError>> {
            Box::pin(async { Ok(()) })
        }
        fn undrain(&self, _: IpAddr) -> BoxFuture<'_, Result<(), ShardError>> {
            Box::pin(async { Ok(()) })
        }
        fn evict(&self, _: IpAddr, _: Eviction) -> BoxFuture<'_, Result<(), ShardError>> {
            Box::pin(async { Ok(()) })
        }
    }

    fn health() -> (Health, mpsc::UnboundedReceiver<ClusterName>) {
        let (changed, told) = mpsc::unbounded_channel();
        (Health::new(Arc::new(Always), Duration::from_secs(5), Arc::new(Metrics::new()), changed), told)
    }

    fn shop() -> ClusterName {
        ("shop".to_owned(), "prices".to_owned())
    }

    fn answer(state: &str, connections: u32) -> Answer {
        serde_json::from_value(json!({ "state": state, "connections": connections, "capacity": 100 })).unwrap()
    }

    /// A pod that is known and never asked: answers are put in by hand.
    fn known(health: &Health) {
        let pod = Pod {
            address: [127, 0, 0, 1].into(),
            seen: watch::channel(Seen::default()).0,
            told: 0,
            task: tokio::spawn(std::future::pending::<()>()).abort_handle(),
            wake: Arc::default(),
        };
        health.0.lock().entry(shop()).or_default().pods.insert("u".to_owned(), pod);
    }

    fn note(health: &Health, answer: Option<Answer>) -> bool {
        health.0.note(&shop(), "u", answer, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn tells_what_matters_at_once_and_counts_every_ten_seconds() {
        let (health, mut told) = health();
        known(&health);
        note(&health, Some(answer("ready", 0)));
        assert!(told.try_recv().is_ok(), "it turned ready");
        for second in 1..60 {
            tokio::time::advance(Duration::from_secs(1)).await;
            note(&health, Some(answer("ready", second)));
        }
        let counts = std::iter::from_fn(|| told.try_recv().ok()).count();
        assert_eq!(counts, 5);
        note(&health, Some(answer("draining", 59)));
        assert!(told.try_recv().is_ok(), "it drains");
        note(&health, Some(answer("draining", 0)));
        assert!(told.try_recv().is_ok(), "everybody has moved");
        note(&health, Some(answer("draining", 0)));
        assert!(told.try_recv().is_err(), "nothing moved");
    }

    #[tokio::test(start_paused = true)]
    async fn asks_more_often_while_a_shard_moves() {
        let (health, _told) = health();
        known(&health);
        assert!(!note(&health, Some(answer("ready", 1))));
        assert!(note(&health, Some(answer("draining", 1))));
        assert!(note(&health, Some(answer("starting", 0))));
        assert!(note(&health, None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_from_before_an_act_says_nothing() {
        let (health, _told) = health();
        known(&health);
        let before = Instant::now();
        note(&health, Some(answer("draining", 0)));
        tokio::time::advance(Duration::from_millis(10)).await;
        health.acted(&shop(), "u");
        health.0.note(&shop(), "u", Some(answer("draining", 0)), before);
        let seen = |health: &Health| health.0.lock()[&shop()].pods["u"].seen.borrow().clone();
        assert!(!seen(&health).is_fresh());
        tokio::time::advance(Duration::from_millis(10)).await;
        note(&health, Some(answer("ready", 0)));
        assert!(seen(&health).is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn asks_a_new_pod_before_it_says_anything_about_it() {
        let (health, _told) = health();
        let target = Target { uid: "u".to_owned(), address: [127, 0, 0, 1].into() };
        let seen = health.of(&shop(), std::slice::from_ref(&target)).await;
        assert_eq!(seen["u"].connections(), 7);
        assert!(health.of(&shop(), &[]).await.is_empty());
        assert!(health.0.lock()[&shop()].pods.is_empty(), "a pod that is gone is asked no more");
    }
}
