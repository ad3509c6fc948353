//! Kubernetes: the objects of the API server, the `StatefulSet` controller, the kubelet.
//!
//! The controller behaves like that of Kubernetes with `podManagementPolicy: Parallel` and a partition. It creates
//! missing pods: below the partition on the last revision that all pods had, from the partition up on the newest. It
//! deletes surplus pods. It replaces pods from the highest ordinal down to the partition, one at a time, and waits
//! until each new pod is ready. It never replaces a broken pod of the newest revision.

use rand::RngExt as _;

use crate::Ms;
use crate::event::Event;
use crate::log::{self, Reader};
use crate::shard::{Drain, Life, Process};
use crate::world::World;

/// The `StatefulSet`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatefulSet {
    /// Wanted pods.
    pub replicas: u32,
    /// Pods with a lower ordinal keep their revision.
    pub partition: u32,
    /// The newest revision.
    pub update: usize,
    /// The last revision that all pods had.
    pub current: usize,
    /// Whether it exists.
    pub exists: bool,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Unique over the run.
    pub uid: u32,
    /// Its ordinal.
    pub ordinal: u32,
    /// The revision of its template.
    pub revision: usize,
    /// The last start of its container.
    pub started: Ms,
    /// Start and end of the last time that its process was stopped (SIGSTOP).
    pub stop: (Ms, Ms),
    /// When it began to terminate.
    pub deleting: Option<Ms>,
    /// The `StatefulSet` may delete it at any time; the check ran when that became possible.
    pub let_go: bool,
    /// Its process.
    pub process: Process,
}

impl Pod {
    /// Ready in the view of the kubelet.
    pub fn is_ready(&self) -> bool {
        self.process.is_open() && self.process.stopped_at.is_none()
    }

    /// When it became unready, if it was ready before.
    pub fn unready_since(&self) -> Option<Ms> {
        let Process { life, drain, stopped_at, .. } = &self.process;
        let drained = drain.map(|drain| drain.began);
        [drained, *stopped_at].into_iter().flatten().min().filter(|_| *life == Life::Up)
    }
}

/// Longer than any drain.
const GRACE: Ms = 5_000;

impl World {
    pub(crate) fn pod(&self, uid: u32) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.uid == uid)
    }

    pub(crate) fn pod_mut(&mut self, uid: u32) -> Option<&mut Pod> {
        self.pods.iter_mut().find(|pod| pod.uid == uid)
    }

    /// Controllers and watches receive a change a little later.
    pub(crate) fn plan_sync(&mut self) {
        let watch = self.scenario.pace.watch;
        if !self.is_sync_planned {
            self.is_sync_planned = true;
            self.queue.plan(self.now + self.rng.random_range(10..=watch), Event::Sync);
        }
    }

    fn plan_discovery(&mut self) {
        for gateway in 0..self.gateways.len() {
            let at = self.now + self.rng.random_range(10..=self.scenario.pace.watch);
            self.queue.plan(at, Event::Discover(gateway));
        }
    }

    /// One reconciliation of the `StatefulSet` controller.
    pub(crate) fn sync(&mut self) {
        self.is_sync_planned = false;
        if self.is_api_away() || !self.set.exists {
            return;
        }
        let set = self.set;
        for ordinal in 0..set.replicas {
            if !self.pods.iter().any(|pod| pod.ordinal == ordinal) {
                let revision = if ordinal < set.partition { set.current } else { set.update };
                self.create(ordinal, revision);
            }
        }
        let surplus = self.pods.iter().filter(|pod| pod.ordinal >= set.replicas && pod.deleting.is_none());
        for uid in surplus.map(|pod| pod.uid).collect::<Vec<_>>() {
            self.delete(uid);
        }
        for ordinal in (set.partition..set.replicas).rev() {
            let Some(pod) = self.pods.iter().find(|pod| pod.ordinal == ordinal) else { continue };
            if pod.revision != set.update && pod.deleting.is_none() {
                let uid = pod.uid;
                self.delete(uid);
                break;
            }
            if !pod.is_ready() || pod.deleting.is_some() {
                break;
            }
        }
        let is_done = |ordinal| {
            let pod = self.pods.iter().find(|pod| pod.ordinal == ordinal);
            pod.is_some_and(|pod| pod.revision == set.update && pod.is_ready())
        };
        if (0..set.replicas).all(is_done) {
            self.set.current = set.update;
        }
    }

    fn create(&mut self, ordinal: u32, revision: usize) {
        let uid = self.next_uid;
        self.next_uid += 1;
        let capacity = self.scenario.templates[revision].capacity;
        let reader = Reader { lag: 0, stopped: None, filled_from: log::end(self.now), window: 0 };
        let process = Process {
            incarnation: 0,
            life: Life::Down,
            up_since: 0,
            slots: Vec::new(),
            ghosts: 0,
            capacity,
            drain: None,
            drains: 0,
            stopped_at: None,
            reader,
        };
        let started = self.now;
        self.pods.push(Pod { uid, ordinal, revision, started, stop: (0, 0), deleting: None, let_go: false, process });
        self.trace(|| format!("pod {uid} is created: shard {ordinal}, revision r{revision}, capacity {capacity}"));
        self.queue.plan(self.now + self.rng.random_range(100..3_000), Event::Start(uid));
        self.plan_discovery();
    }

    /// A pod is deleted; its process gets SIGTERM.
    pub(crate) fn delete(&mut self, uid: u32) {
        let now = self.now;
        let deadline = self.spec.deadline;
        let Some(pod) = self.pod_mut(uid).filter(|pod| pod.deleting.is_none()) else { return };
        pod.deleting = Some(now);
        let (ordinal, connections) = (pod.ordinal, pod.process.connections());
        self.trace(|| format!("pod {uid} (shard {ordinal}) is deleted with {connections} connections"));
        self.queue.plan(now + deadline + GRACE, Event::Kill(uid));
        self.terminate(uid);
    }

    /// SIGTERM.
    pub(crate) fn terminate(&mut self, uid: u32) {
        let (now, rate, deadline) = (self.now, self.spec.evict_rate, self.spec.deadline);
        let Some(pod) = self.pod(uid) else { return };
        match pod.process.life {
            Life::Down | Life::Looping => {
                self.end_process(uid);
                let gone = now + self.rng.random_range(50..500);
                self.queue.plan(gone, Event::Gone(uid));
            }
            Life::Filling | Life::Up if pod.process.stopped_at.is_none() => {
                self.begin_drain(uid, Drain { began: now, deadline, rate, is_last: true });
            }
            Life::Filling | Life::Up => {}
        }
    }

    /// SIGKILL at the end of the grace period.
    pub(crate) fn kill(&mut self, uid: u32) {
        let Some(pod) = self.pod(uid) else { return };
        if matches!(pod.process.life, Life::Filling | Life::Up) {
            self.end_process(uid);
            self.queue.plan(self.now + 50, Event::Gone(uid));
        }
    }

    /// The object of the pod is deleted.
    pub(crate) fn gone(&mut self, uid: u32) {
        if self.is_api_away() {
            self.queue.plan(self.now + 500, Event::Gone(uid));
            return;
        }
        if let Some(at) = self.pods.iter().position(|pod| pod.uid == uid) {
            let ordinal = self.pods.remove(at).ordinal;
            self.trace(|| format!("pod {uid} (shard {ordinal}) is gone"));
            self.plan_sync();
            self.plan_discovery();
        }
    }

    /// The eviction API with a budget of one pod: succeeds only while all other pods are ready.
    pub(crate) fn evict_pod(&mut self, ordinal: u32) {
        let all_ready = self.pods.iter().all(|pod| pod.deleting.is_none() && pod.is_ready());
        let pod = self.pods.iter().find(|pod| pod.ordinal == ordinal);
        if let Some(uid) = pod.filter(|_| all_ready && !self.is_api_away()).map(|pod| pod.uid) {
            self.delete(uid);
        }
    }
}
