//! The operator: polls the health of shards, reads the API server through a cache, plans, and acts a little later.
//!
//! It loses its memory when its process is killed. After each of its own actions it records the effect, so that it
//! does not trust an earlier health answer.

use std::time::Duration;

use rand::RngExt as _;
use wscluster_plan::{Action, Blocked, Desired, Observed, Plan, Reconnecting, Shard, State, Timestamp, plan};

use crate::Ms;
use crate::event::Event;
use crate::mutant::Mutant;
use crate::scenario::Spec;
use crate::shard::{Drain, Life};
use crate::world::World;

/// The operator's process.
#[derive(Debug)]
pub struct Operator {
    /// The number of its starts; events of an earlier process are void.
    pub epoch: u32,
    is_up: bool,
    known: Vec<Known>,
    reconnecting: Reconnecting,
    cache: Cache,
    decided: Option<(Plan, Spec)>,
    approved: Option<(usize, u32)>,
    /// Why its last plan was blocked.
    pub blocked: Option<Blocked>,
}

/// Its knowledge of the process of a pod.
#[derive(Clone, Copy, Debug)]
struct Known {
    uid: u32,
    first_seen: Ms,
    /// The last answer, and its time.
    heard: Option<(Ms, State, u32, u32)>,
    drain_since: Option<Ms>,
}

/// The cached objects of the API server.
#[derive(Clone, Debug, Default)]
struct Cache {
    spec: Option<Spec>,
    replicas: u32,
    pods: Vec<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    uid: u32,
    ordinal: u32,
    revision: usize,
    /// The last start of its container.
    started: Ms,
    deleting: Option<Ms>,
    is_down: bool,
    is_looping: bool,
    is_ready: bool,
    unready_since: Option<Ms>,
}

const fn moment(at: Ms) -> Timestamp {
    Timestamp::from_millis(at)
}

impl Operator {
    /// A running operator that counts evicted clients as reconnecting for `window`.
    pub fn new(window: Ms) -> Self {
        Self {
            epoch: 0,
            is_up: true,
            known: Vec::new(),
            reconnecting: Reconnecting::new(Duration::from_millis(window)),
            cache: Cache::default(),
            decided: None,
            approved: None,
            blocked: None,
        }
    }

    /// Its process is killed.
    pub fn forget(&mut self) {
        self.is_up = false;
        self.epoch += 1;
        self.known.clear();
        self.decided = None;
        self.cache = Cache::default();
    }

    fn known(&mut self, uid: u32, now: Ms) -> &mut Known {
        if let Some(at) = self.known.iter().position(|known| known.uid == uid) {
            return &mut self.known[at];
        }
        self.known.push(Known { uid, first_seen: now, heard: None, drain_since: None });
        self.known.last_mut().expect("one was pushed")
    }
}

impl World {
    pub(crate) fn start_operator(&mut self) {
        let window = self.scenario.pace.hint + self.scenario.pace.ask + self.scenario.pace.observe + 1_500;
        let epoch = self.operator.epoch;
        self.operator = Operator { epoch, ..Operator::new(window) };
        self.queue.plan(self.now + 10, Event::Ask(epoch));
        self.queue.plan(self.now + 2 * self.scenario.pace.ask, Event::Observe(epoch));
    }

    /// Polls the health of every shard in its cache.
    pub(crate) fn ask(&mut self, epoch: u32) {
        if self.operator.epoch != epoch || !self.operator.is_up {
            return;
        }
        let now = self.now;
        for at in 0..self.operator.cache.pods.len() {
            let uid = self.operator.cache.pods[at].uid;
            let Some(pod) = self.pod(uid) else { continue };
            if !pod.process.is_running() || self.operator_cut_since(pod.ordinal).is_some() {
                continue;
            }
            let (connections, capacity) = (pod.process.connections(), pod.process.capacity);
            let state = match (pod.process.life, pod.process.drain) {
                (_, Some(_)) => State::Draining,
                (Life::Filling, None) => State::Starting,
                _ if connections >= capacity => State::Full,
                _ => State::Ready,
            };
            let known = self.operator.known(uid, now);
            known.heard = Some((now, state, connections, capacity));
            match state {
                State::Draining => _ = known.drain_since.get_or_insert(now),
                _ => known.drain_since = None,
            }
        }
        let next = now + self.jitter(self.scenario.pace.ask);
        self.queue.plan(next, Event::Ask(epoch));
    }

    /// Observes and plans.
    pub(crate) fn observe(&mut self, epoch: u32) {
        if self.operator.epoch != epoch || !self.operator.is_up {
            return;
        }
        let now = self.now;
        if self.is_api_away() {
            self.queue.plan(now + 500, Event::Observe(epoch));
            return;
        }
        // Sometimes the watch is one round late.
        if self.operator.cache.spec.is_none() || self.rng.random_bool(0.8) {
            self.refresh();
        }
        let mut observed = self.observed();
        self.operator.reconnecting.note(&mut observed, moment(now));
        let Some(spec) = self.operator.cache.spec.clone() else { return };
        let mut desired = self.desired(&spec);
        self.mutant_before(&mut desired, &mut observed);
        let mut planned = plan(&desired, &observed, moment(now));
        self.mutant_after(&spec, &mut planned);
        if let Some(Blocked::Approval { ordinal }) = planned.blocked
            && self.rng.random_bool(0.3)
        {
            self.operator.approved = Some((spec.revision, ordinal));
        }
        self.operator.blocked = planned.blocked;
        self.operator.decided = Some((planned, spec));
        let acts = now + self.rng.random_range(10..=self.scenario.pace.act);
        self.queue.plan(acts, Event::Act(epoch));
    }

    fn refresh(&mut self) {
        let replicas = if self.set.exists { self.set.replicas } else { 0 };
        let seen = |pod: &crate::kube::Pod| Seen {
            uid: pod.uid,
            ordinal: pod.ordinal,
            revision: pod.revision,
            started: pod.started,
            deleting: pod.deleting,
            is_down: pod.process.life == Life::Down,
            is_looping: pod.process.life == Life::Looping,
            is_ready: pod.is_ready(),
            unready_since: pod.unready_since(),
        };
        let mut pods: Vec<_> = self.pods.iter().map(seen).collect();
        pods.sort_by_key(|pod| pod.ordinal);
        self.operator.known.retain(|known| pods.iter().any(|pod| pod.uid == known.uid));
        self.operator.cache = Cache { spec: Some(self.spec.clone()), replicas, pods };
    }

    fn desired(&self, spec: &Spec) -> Desired {
        Desired {
            shards: spec.shards,
            revision: format!("r{}", spec.revision),
            capacity: self.scenario.templates[spec.revision].capacity,
            evict_rate: spec.evict_rate,
            deadline: Duration::from_millis(spec.deadline),
            paused: spec.paused,
            max_in_motion: spec.max_in_motion,
            surge: spec.surge,
            supervised: spec.supervised,
            approved: self.operator.approved.filter(|(revision, _)| *revision == spec.revision).map(|(_, at)| at),
        }
    }

    fn observed(&mut self) -> Observed {
        let now = self.now;
        let patience = 3 * self.scenario.pace.ask + 1_000;
        let pods = std::mem::take(&mut self.operator.cache.pods);
        let shard = |seen: &Seen| {
            let known = *self.operator.known(seen.uid, now);
            let (heard, said, connections, capacity) =
                known.heard.unwrap_or((0, State::Starting, 0, self.scenario.templates[seen.revision].capacity));
            let is_silent = now - heard.max(seen.started) > patience;
            // A shard counts as starting only if it reports that, or its container does not run yet. Anything else is
            // uncertain.
            let is_doubtful = is_silent || (said == State::Starting && seen.is_ready);
            let state = match (seen.deleting, seen.is_looping) {
                (Some(_), _) => State::Leaving,
                (None, true) => State::Failing,
                (None, false) if seen.is_down => State::Starting,
                (None, false) if is_doubtful => State::Silent,
                (None, false) => said,
            };
            let since = match state {
                State::Leaving => seen.deleting,
                State::Silent => {
                    let silent = known.drain_since.unwrap_or(heard.max(known.first_seen) + patience);
                    // While its kubelet found it ready, only the connection from the operator was broken.
                    Some(seen.unready_since.map_or(silent, |unready| unready.max(silent)))
                }
                State::Draining => known.drain_since,
                _ => Some(known.first_seen),
            };
            Shard {
                ordinal: seen.ordinal,
                revision: format!("r{}", seen.revision),
                state,
                connections: if matches!(state, State::Starting | State::Failing) { 0 } else { connections },
                capacity,
                pod_ready: seen.is_ready,
                known_to_gateways: self.gateways.iter().all(|gateway| !gateway.is_up || gateway.knows(seen.uid)),
                since: since.map(moment),
            }
        };
        let shards = pods.iter().map(shard).collect();
        self.operator.cache.pods = pods;
        Observed { replicas: self.operator.cache.replicas, reconnecting: 0, shards }
    }

    /// Executes the plan: the `StatefulSet` in one write, then the shards.
    pub(crate) fn act(&mut self, epoch: u32) {
        if self.operator.epoch != epoch || !self.operator.is_up {
            return;
        }
        let next = self.now + self.jitter(self.scenario.pace.observe);
        self.queue.plan(next, Event::Observe(epoch));
        let Some((planned, spec)) = self.operator.decided.take() else { return };
        if self.is_api_away() {
            return;
        }
        let before = self.set;
        (self.set.replicas, self.set.partition, self.set.update) = (planned.replicas, planned.partition, spec.revision);
        if !self.set.exists {
            (self.set.exists, self.set.current) = (true, spec.revision);
        }
        // The answer has the current object; the cache may lag if the API server was unreachable.
        self.operator.cache.replicas = planned.replicas;
        if self.set != before {
            let set = self.set;
            self.trace(|| {
                format!("StatefulSet: replicas {}, partition {}, r{}", set.replicas, set.partition, set.update)
            });
            self.plan_sync();
        }
        self.check_let_go();
        for step in &planned.steps {
            let seen = self.operator.cache.pods.iter().find(|pod| pod.ordinal == step.ordinal);
            let Some(uid) = seen.map(|seen| seen.uid) else { continue };
            if step.action != Action::Wait {
                self.trace(|| format!("operator: {:?} of shard {}: it {}", step.action, step.ordinal, step.reason));
            }
            match step.action {
                Action::Wait | Action::Remove => {}
                Action::Drain { rate, deadline } => self.post_drain(uid, rate, deadline.as_millis() as Ms, &spec),
                Action::Undrain => self.delete_drain(uid),
                Action::Restart => {
                    self.check_removal(uid);
                    self.delete(uid);
                }
            }
        }
    }

    fn reaches(&self, uid: u32) -> bool {
        let pod = self.pod(uid).filter(|pod| pod.process.is_running());
        pod.is_some_and(|pod| self.operator_cut_since(pod.ordinal).is_none())
    }

    fn post_drain(&mut self, uid: u32, rate: u32, deadline: Ms, spec: &Spec) {
        if !self.reaches(uid) {
            return;
        }
        self.check_motion(uid, spec);
        let now = self.now;
        self.begin_drain(uid, Drain { began: now, deadline, rate, is_last: false });
        let known = self.operator.known(uid, now);
        known.drain_since = Some(now);
        self.note_action(uid, State::Draining);
    }

    fn delete_drain(&mut self, uid: u32) {
        if self.reaches(uid) {
            self.cancel_drain(uid);
            self.operator.known(uid, self.now).drain_since = None;
            self.note_action(uid, State::Ready);
        }
    }

    /// A successful action is newer than any earlier answer. The number of connections is not: some may
    /// have been made since, and a drain is over only when the shard reports that it is empty.
    fn note_action(&mut self, uid: u32, state: State) {
        let is_trusting = self.mutant == Some(Mutant::TrustsOldHealth);
        if let Some((_, said, connections, _)) = &mut self.operator.known(uid, self.now).heard {
            *said = state;
            if state == State::Draining && !is_trusting {
                *connections = (*connections).max(1);
            }
        }
    }
}
