//! The invariants, checked continuously or at the end. The first violation is recorded and stops the run.

use wscluster_plan::Blocked;

use crate::Ms;
use crate::client::State;
use crate::gateway::Member;
use crate::scenario::Spec;
use crate::shard::Life;
use crate::world::World;

/// A client gets a slot within this time if enough slots are free.
const PATIENCE: Ms = 25_000;
/// Tolerance for the difference between the actual state and the operator's view of it.
const SLACK: Ms = 500;

impl World {
    fn fail(&mut self, what: String) {
        self.trace(|| format!("BROKEN: {what}"));
        if self.violation.is_none() {
            self.violation = Some(what);
        }
    }

    /// A fault or an edit: clients may wait again.
    pub(crate) fn trouble(&mut self) {
        self.trouble_at = self.now;
    }

    pub(crate) fn check_capacity(&mut self, uid: u32) {
        let Some(pod) = self.pod(uid) else { return };
        let (held, capacity, ordinal) = (pod.process.connections(), pod.process.capacity, pod.ordinal);
        if held > capacity {
            self.fail(format!("over capacity: shard {ordinal} holds {held} of {capacity}"));
        }
    }

    pub(crate) fn check_pick(&mut self, gateway: usize, member: &Member) {
        if !member.is_open || member.used + member.in_flight >= member.capacity {
            let (ordinal, used) = (member.ordinal, member.used + member.in_flight);
            self.fail(format!("gateway {gateway} picks shard {ordinal}, which it sees as full or closed ({used})"));
        }
    }

    pub(crate) fn check_refusal(&mut self, client: u32) {
        self.refusals += 1;
        self.trace(|| format!("client {client} is refused"));
        if self.scenario.is_quiet {
            self.fail(format!("a handshake fails in a quiet scenario: client {client}"));
        }
    }

    /// From now on, the controller may delete surplus pods and pods of an older revision at or above the partition.
    pub(crate) fn check_let_go(&mut self) {
        let set = self.set;
        let is_let_go = |pod: &&crate::kube::Pod| {
            pod.ordinal >= set.replicas || (pod.revision != set.update && pod.ordinal >= set.partition)
        };
        let now: Vec<_> = self.pods.iter().map(|pod| is_let_go(&pod)).collect();
        for (at, let_go) in now.into_iter().enumerate() {
            if let_go {
                self.check_removal(self.pods[at].uid);
            }
            self.pods[at].let_go = let_go;
        }
    }

    /// A pod is about to be deleted on behalf of the operator.
    pub(crate) fn check_removal(&mut self, uid: u32) {
        let now = self.now;
        let pace = self.scenario.pace;
        let Some(pod) = self.pod(uid).filter(|pod| pod.deleting.is_none() && !pod.let_go) else { return };
        let process = &pod.process;
        let deadline = self.spec.deadline;
        let has_passed = |began: Ms| now + SLACK >= began + deadline;
        let is_new = process.up_since + 2 * pace.ask + pace.observe + pace.act + 2 * pace.watch + SLACK > now;
        // Until the kubelet has found the pod unready for as long as a deadline, only the connection of the operator
        // may be broken.
        let lag = 2 * (pace.ask + pace.observe + pace.act + pace.watch) + SLACK;
        let was_stopped = pod.stop.1 + lag > now && has_passed(pod.stop.0);
        let is_fine = !was_stopped && !pod.unready_since().is_some_and(has_passed);
        let unheard = self.unheard_since(pod.ordinal);
        let was_unheard = self.heals.iter().any(|(ordinal, began, ended)| {
            *ordinal == pod.ordinal
                && ended + pace.ask + pace.observe + pace.act + pace.watch > now
                && has_passed(*began)
        });
        let is_allowed = process.connections() == 0
            || process.life != Life::Up
            || is_new
            || (was_unheard && !is_fine)
            || process.drain.is_some_and(|drain| has_passed(drain.began))
            || (unheard.is_some_and(has_passed) && !is_fine);
        if !is_allowed {
            let (ordinal, held) = (pod.ordinal, process.connections());
            self.fail(format!("shard {ordinal} (pod {uid}) is removed with {held} connections"));
        }
    }

    /// The operator begins a drain of `uid`. Checked in quiet scenarios only: the operator cannot count shards that
    /// it does not reach.
    pub(crate) fn check_motion(&mut self, uid: u32, spec: &Spec) {
        if !self.scenario.is_quiet {
            return;
        }
        let drains = |pod: &&crate::kube::Pod| pod.uid != uid && pod.process.drain.is_some_and(|drain| !drain.is_last);
        let others = self.pods.iter().filter(drains).filter(|pod| pod.process.connections() > 0).count();
        if others >= spec.max_in_motion as usize {
            self.fail(format!("{} shards in motion, {} allowed", others + 1, spec.max_in_motion));
        }
    }

    /// A client resumes on a shard.
    pub(crate) fn check_session(&mut self, client: u32, ordinal: u32, position: u64, from: u64, is_told: bool) {
        if is_told {
            self.told += 1;
            if self.scenario.is_quiet {
                self.fail(format!("client {client} gets a gap in a quiet scenario"));
            }
        } else if from > position {
            self.fail(format!(
                "lost: client {client} has seen all before {position}, shard {ordinal} begins at {from}"
            ));
        } else if from < position {
            self.fail(format!("repeated: client {client} expects {position}, shard {ordinal} begins at {from}"));
        }
    }

    /// Runs once a second. Returns whether the cluster is stable.
    pub(crate) fn check_all(&mut self) -> bool {
        let now = self.now;
        let is_homeless = |state: &State| matches!(state, State::Away | State::Asking { .. });
        let homeless = self.clients.iter().filter(|client| is_homeless(&client.state)).count() as u32;
        let free: u32 = self
            .pods
            .iter()
            .filter(|pod| pod.is_ready())
            .map(|pod| pod.process.capacity.saturating_sub(pod.process.connections()))
            .sum();
        if free < homeless || !self.active.is_empty() {
            self.trouble();
        }
        if homeless > 0 && now > self.trouble_at + PATIENCE {
            let starves = self.clients.iter().position(|client| {
                is_homeless(&client.state) && now > client.homeless_since.max(self.trouble_at) + PATIENCE
            });
            if let Some(client) = starves {
                self.fail(format!("starved: client {client} has no slot, {free} are free"));
            }
        }
        if now < self.scenario.calm + 2_000 {
            return false;
        }
        let is_good = |pod: &crate::kube::Pod| {
            pod.is_ready()
                && pod.deleting.is_none()
                && pod.revision == self.spec.revision
                && pod.ordinal < self.spec.shards
        };
        let is_at_rest = homeless == 0
            && self.set.replicas == self.spec.shards
            && self.set.partition == 0
            && self.pods.len() == self.spec.shards as usize
            && self.pods.iter().all(is_good);
        if is_at_rest {
            self.check_slots();
        } else if now >= self.scenario.end {
            self.check_end(homeless);
        }
        is_at_rest
    }

    /// Checks that every slot in use belongs to a client.
    fn check_slots(&mut self) {
        for at in 0..self.pods.len() {
            let (ordinal, process) = (self.pods[at].ordinal, &self.pods[at].process);
            let (taken, held) = (process.connections(), process.slots.len());
            // Slots of clients behind a network partition are freed after it.
            if taken as usize > held && now_is_late(self.now, self.trouble_at) {
                self.fail(format!("shard {ordinal} counts {taken} connections and holds {held}"));
            }
        }
    }

    /// The cluster is not stable at the end. That is allowed only if the plan reports missing slots and they are
    /// missing.
    fn check_end(&mut self, homeless: u32) {
        if let Some(Blocked::Slots { ordinal, .. }) = self.operator.blocked {
            let held: u32 =
                self.pods.iter().filter(|pod| pod.ordinal == ordinal).map(|pod| pod.process.connections()).sum();
            let others = self.pods.iter().filter(|pod| pod.ordinal != ordinal && pod.is_ready());
            let free: u32 = others.map(|pod| pod.process.capacity.saturating_sub(pod.process.connections())).sum();
            if free < held + homeless {
                self.is_blocked = true;
                return;
            }
        }
        let (replicas, partition, wanted) = (self.set.replicas, self.set.partition, self.spec.shards);
        let blocked = self.operator.blocked;
        let pods = self.pods.len();
        self.fail(format!(
            "not stable: {pods} pods, replicas {replicas}, partition {partition}, {wanted} wanted, {homeless} clients without \
             a slot, blocked by {blocked:?}"
        ));
    }
}

const fn now_is_late(now: Ms, trouble_at: Ms) -> bool {
    now > trouble_at + 35_000
}
