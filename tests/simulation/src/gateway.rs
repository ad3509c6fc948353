//! Gateways: the view that each has of every shard, and how a client gets a slot. The picker is the real one.
//!
//! The rest follows `docs/handshake.md`: the view comes from polls and answers, plus the gateway's own handshakes in
//! flight; it is doubtful after 2 s without an answer, and closed after 10 s; failures are penalized, other shards
//! are tried, then the client waits in the queue, and a last attempt includes shards that have not answered since.

use rand::RngExt as _;
use wscluster_routing::pick::{Candidate, choose};

use crate::Ms;
use crate::client::State;
use crate::event::Event;
use crate::mutant::Mutant;
use crate::shard::Life;
use crate::world::World;

/// A gateway.
#[derive(Clone, Debug, Default)]
pub struct Gateway {
    /// Whether its process runs.
    pub is_up: bool,
    /// The shards in its list.
    pub members: Vec<Member>,
}

/// The view that a gateway has of a shard.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its pod.
    pub uid: u32,
    /// The ordinal of the shard.
    pub ordinal: u32,
    /// Slots in use.
    pub used: u32,
    /// All slots.
    pub capacity: u32,
    /// Handshakes of this gateway in flight.
    pub in_flight: u32,
    /// Whether it takes upgrades.
    pub is_open: bool,
    /// The time of the last answer; 0 for never.
    pub heard: Ms,
    /// Until this time, other shards are preferred.
    pub penalty: Ms,
    /// Failures in a row.
    pub failures: u32,
}

const STALE: Ms = 2_000;
const GONE: Ms = 10_000;
const SHARD_TIMEOUT: Ms = 2_000;
const PATIENCE: Ms = 5_000;

impl Gateway {
    /// Whether the pod is in its list.
    pub(crate) fn knows(&self, uid: u32) -> bool {
        self.members.iter().any(|member| member.uid == uid && member.heard > 0)
    }
}

impl Member {
    fn candidate(&self) -> Candidate {
        Candidate { used: self.used + self.in_flight, capacity: self.capacity }
    }

    fn is_doubtful(&self, now: Ms) -> bool {
        now - self.heard > STALE || now < self.penalty
    }

    fn failed(&mut self, now: Ms) {
        self.penalty = now + (100 << self.failures.min(6)).min(5_000);
        self.failures += 1;
    }
}

const fn bit(uid: u32) -> u128 {
    1 << (uid % 128)
}

impl World {
    fn member_mut(&mut self, gateway: usize, uid: u32) -> Option<&mut Member> {
        self.gateways[gateway].members.iter_mut().find(|member| member.uid == uid)
    }

    /// A client dials.
    pub(crate) fn knock(&mut self, client: u32, epoch: u32) {
        if self.clients[client as usize].epoch != epoch {
            return;
        }
        let gateway = self.rng.random_range(0..self.gateways.len());
        if !self.gateways[gateway].is_up {
            let delay = self.rng.random_range(50..1_000);
            self.back_off(client, delay);
            return;
        }
        let now = self.now;
        self.clients[client as usize].state = State::Asking { gateway, tried: 0, began: now, until: now + PATIENCE };
        self.ask_next(client, false);
    }

    /// Picks the next shard for a client; otherwise the client waits in the queue, or is refused after the timeout.
    fn ask_next(&mut self, client: u32, has_failed: bool) {
        let now = self.now;
        let State::Asking { gateway, tried, began, until } = self.clients[client as usize].state else { return };
        let gives_up = has_failed && self.mutant == Some(Mutant::NeverRetries);
        let mut chosen = if gives_up { None } else { self.pick(gateway, tried) };
        let is_last = gives_up || now >= until;
        if chosen.is_none() && is_last && !gives_up {
            let unheard = |member: &&Member| {
                let is_known = member.is_open && member.heard > 0 && now - member.heard <= GONE;
                is_known && member.heard < began && tried & bit(member.uid) == 0
            };
            chosen = self.gateways[gateway].members.iter().find(unheard).map(|member| member.uid);
        }
        let who = &mut self.clients[client as usize];
        let epoch = who.epoch;
        if let Some(uid) = chosen {
            who.state = State::Asking { gateway, tried: tried | bit(uid), began, until };
            if let Some(member) = self.member_mut(gateway, uid) {
                member.in_flight += 1;
            }
            let arrives = now + self.rng.random_range(1..30);
            self.queue.plan(arrives, Event::Upgrade(client, epoch, uid));
        } else if is_last {
            self.refuse(client);
        } else {
            self.queue.plan((now + 150).min(until), Event::Retry(client, epoch));
        }
    }

    /// Runs the real picker on the shards with room in the view of the gateway.
    fn pick(&mut self, gateway: usize, tried: u128) -> Option<u32> {
        let (now, mutant) = (self.now, self.mutant);
        for is_doubtful in [false, true] {
            let members = &self.gateways[gateway].members;
            let is_candidate = |member: &&Member| {
                let is_open = member.is_open || mutant == Some(Mutant::PicksDraining);
                let is_heard = is_open && member.heard > 0 && now - member.heard <= GONE;
                let has_room = member.candidate().has_room() || mutant == Some(Mutant::PicksFull);
                let is_new = tried & bit(member.uid) == 0;
                is_heard && is_new && has_room && member.is_doubtful(now) == is_doubtful
            };
            self.open.clear();
            self.open.extend(members.iter().filter(is_candidate));
            let open = &self.open;
            if let Some(at) = choose(open.len(), |at| open[at].candidate(), &mut self.rng) {
                let member = self.open[at];
                self.check_pick(gateway, &member);
                return Some(member.uid);
            }
        }
        None
    }

    /// The handshake is answered with 503.
    fn refuse(&mut self, client: u32) {
        self.check_refusal(client);
        let hint = self.rng.random_range(100..=self.scenario.pace.hint.max(101));
        self.back_off(client, hint);
    }

    /// An upgrade request reaches a shard, which grants a slot or refuses.
    pub(crate) fn upgrade(&mut self, client: u32, epoch: u32, uid: u32) {
        let State::Asking { gateway, .. } = self.clients[client as usize].state else { return };
        if self.clients[client as usize].epoch != epoch {
            return;
        }
        let now = self.now;
        let over_admits = self.mutant == Some(Mutant::OverAdmits);
        let Some(pod) = self.pod(uid).filter(|pod| matches!(pod.process.life, Life::Filling | Life::Up)) else {
            self.failed(client, gateway, uid);
            return;
        };
        if pod.process.stopped_at.is_some() || self.gateway_cut_since(gateway, pod.ordinal).is_some() {
            self.queue.plan(now + SHARD_TIMEOUT, Event::Timeout(client, epoch, uid));
            return;
        }
        let process = &pod.process;
        let (capacity, is_open) = (process.capacity, process.is_open());
        let is_granted = is_open && (process.connections() < capacity || over_admits);
        if is_granted {
            self.connect(client, gateway, uid);
            self.check_capacity(uid);
        }
        let used = self.pod(uid).map_or(0, |pod| pod.process.connections());
        self.wrong_picks += u64::from(!is_granted);
        if let Some(member) = self.member_mut(gateway, uid) {
            member.in_flight -= 1;
            (member.used, member.capacity, member.heard) = (used, capacity, now);
            if is_granted {
                (member.failures, member.penalty) = (0, 0);
            } else {
                member.is_open = is_open;
            }
        }
        if !is_granted {
            self.ask_next(client, true);
        }
    }

    /// A shard did not answer.
    pub(crate) fn timed_out(&mut self, client: u32, epoch: u32, uid: u32) {
        let State::Asking { gateway, .. } = self.clients[client as usize].state else { return };
        if self.clients[client as usize].epoch == epoch {
            self.failed(client, gateway, uid);
        }
    }

    fn failed(&mut self, client: u32, gateway: usize, uid: u32) {
        let now = self.now;
        if let Some(member) = self.member_mut(gateway, uid) {
            member.in_flight -= 1;
            member.failed(now);
        }
        self.ask_next(client, true);
    }

    /// A queued client tries again. While any client waits, shards are polled more often.
    pub(crate) fn retry(&mut self, client: u32, epoch: u32) {
        if self.clients[client as usize].epoch != epoch {
            return;
        }
        let State::Asking { gateway, tried, .. } = &mut self.clients[client as usize].state else { return };
        *tried = 0;
        let gateway = *gateway;
        self.poll(gateway);
        self.ask_next(client, false);
    }

    /// Polls the health of every shard, and ends the tunnels to shards that have been silent for too long.
    pub(crate) fn poll(&mut self, gateway: usize) {
        let now = self.now;
        let mut gone = Vec::new();
        for at in 0..self.gateways[gateway].members.len() {
            let member = self.gateways[gateway].members[at];
            let Some(pod) = self.pod(member.uid) else { continue };
            let cut = self.gateway_cut_since(gateway, pod.ordinal);
            if pod.process.is_running() && cut.is_none() {
                let (used, capacity) = (pod.process.connections(), pod.process.capacity);
                let is_open = pod.process.is_open();
                let member = &mut self.gateways[gateway].members[at];
                (member.used, member.capacity, member.is_open, member.heard) = (used, capacity, is_open, now);
            } else if member.heard > 0 && now - member.heard > GONE {
                let dark = cut.or(pod.process.stopped_at);
                gone.push((member.uid, dark.filter(|_| cut.is_some())));
            }
        }
        for (uid, dark) in gone {
            self.end_tunnels(gateway, uid, dark);
        }
    }

    fn end_tunnels(&mut self, gateway: usize, uid: u32, dark: Option<Ms>) {
        let through = |client: &&u32| {
            let state = &self.clients[**client as usize].state;
            matches!(state, State::Connected { gateway: through, .. } if *through == gateway)
        };
        let Some(pod) = self.pod(uid) else { return };
        let held: Vec<_> = pod.process.slots.iter().filter(through).copied().collect();
        let incarnation = pod.process.incarnation;
        if held.is_empty() {
            return;
        }
        self.trace(|| format!("gateway {gateway} ends {} tunnels of pod {uid}, which is silent", held.len()));
        for client in held {
            self.cut_off(client, dark);
            // The shard does not notice, and keeps the slot until it does.
            if let Some(pod) = self.pod_mut(uid).filter(|pod| pod.process.life == Life::Up) {
                pod.process.ghosts += 1;
                self.queue.plan(self.now + 30_000, Event::Ghost(uid, incarnation));
            }
        }
    }

    /// The shard has waited in vain for a pong.
    pub(crate) fn ghost(&mut self, uid: u32, incarnation: u32) {
        if let Some(pod) = self.pod_mut(uid).filter(|pod| pod.process.incarnation == incarnation) {
            pod.process.ghosts = pod.process.ghosts.saturating_sub(1);
        }
    }

    /// Copies the list of shards from the API server; keeps the last list while the API server is unreachable.
    pub(crate) fn discover(&mut self, gateway: usize) {
        if self.is_blind(gateway) {
            let again = self.now + self.rng.random_range(200..=5_000);
            self.queue.plan(again, Event::Discover(gateway));
            return;
        }
        let pods = &self.pods;
        let members = &mut self.gateways[gateway].members;
        members.retain(|member| pods.iter().any(|pod| pod.uid == member.uid));
        for pod in pods {
            if !members.iter().any(|member| member.uid == pod.uid) {
                members.push(Member {
                    uid: pod.uid,
                    ordinal: pod.ordinal,
                    used: 0,
                    capacity: 0,
                    in_flight: 0,
                    is_open: false,
                    heard: 0,
                    penalty: 0,
                    failures: 0,
                });
            }
        }
    }

    pub(crate) fn kill_gateway(&mut self, gateway: usize, length: Ms) {
        self.gateways[gateway] = Gateway::default();
        let through = |state: &State| match state {
            State::Connected { gateway: through, .. } | State::Asking { gateway: through, .. } => *through == gateway,
            State::Away | State::Left => false,
        };
        for client in 0..self.clients.len() {
            if through(&self.clients[client].state) {
                self.cut_off(client as u32, None);
            }
        }
        self.queue.plan(self.now + length, Event::GatewayStarts(gateway));
    }

    pub(crate) fn start_gateway(&mut self, gateway: usize) {
        self.gateways[gateway].is_up = true;
        self.discover(gateway);
        self.poll(gateway);
    }
}
