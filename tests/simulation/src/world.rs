//! One run: the state of all parts, and the event loop.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::Ms;
use crate::client::{Client, State};
use crate::event::{Event, Queue};
use crate::fault::Fault;
use crate::gateway::{Gateway, Member};
use crate::kube::{Pod, StatefulSet};
use crate::mutant::Mutant;
use crate::operator::Operator;
use crate::scenario::{Scenario, Spec};

/// The state of all parts.
#[derive(Debug)]
pub struct World {
    pub(crate) now: Ms,
    pub(crate) rng: SmallRng,
    pub(crate) queue: Queue,
    pub(crate) scenario: Scenario,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) spec: Spec,
    pub(crate) set: StatefulSet,
    pub(crate) pods: Vec<Pod>,
    pub(crate) next_uid: u32,
    pub(crate) is_sync_planned: bool,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) clients: Vec<Client>,
    pub(crate) operator: Operator,
    /// Active faults: index, fault, start.
    pub(crate) active: Vec<(usize, Fault, Ms)>,
    /// Past times during which the operator did not reach a shard: ordinal, start, end.
    pub(crate) heals: Vec<(u32, Ms, Ms)>,
    /// Shards that the operator does not reach now: ordinal, start.
    pub(crate) dark: Vec<(u32, Ms)>,
    pub(crate) trouble_at: Ms,
    pub(crate) violation: Option<String>,
    pub(crate) is_blocked: bool,
    pub(crate) refusals: u64,
    pub(crate) wrong_picks: u64,
    pub(crate) sessions: u64,
    pub(crate) told: u64,
    /// A buffer for picks, reused to avoid allocations.
    pub(crate) open: Vec<Member>,
    trace: Option<Vec<String>>,
}

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The check that failed.
    pub violation: Option<String>,
    /// The trace of events, if requested.
    pub trace: Vec<String>,
    /// Whether the plan is blocked at the end because slots are missing.
    pub is_blocked: bool,
    /// Handshakes that were answered with 503.
    pub refusals: u64,
    /// Upgrades that a shard refused.
    pub wrong_picks: u64,
    /// Connections that were established.
    pub sessions: u64,
    /// Sessions that began with a reported gap.
    pub told: u64,
    /// The virtual time of the end.
    pub ended: Ms,
}

/// Runs the scenario of `seed`.
pub fn run(seed: u64, mutant: Option<Mutant>, tells: bool) -> Outcome {
    let scenario = Scenario::draw(seed);
    World::new(scenario, mutant, tells).run()
}

impl World {
    /// The state before the first event.
    pub fn new(scenario: Scenario, mutant: Option<Mutant>, tells: bool) -> Self {
        let client = Client { state: State::Away, epoch: 0, position: None, homeless_since: 0 };
        let gateway = Gateway { is_up: true, members: Vec::new() };
        Self {
            // No event is at 0, which stands for "never".
            now: 1_000,
            rng: SmallRng::seed_from_u64(!scenario.seed),
            queue: Queue::default(),
            mutant,
            spec: scenario.spec.clone(),
            set: StatefulSet::default(),
            pods: Vec::new(),
            next_uid: 0,
            is_sync_planned: false,
            gateways: vec![gateway; scenario.gateways],
            clients: vec![client; scenario.clients as usize],
            operator: Operator::new(0),
            active: Vec::new(),
            heals: Vec::new(),
            dark: Vec::new(),
            trouble_at: 0,
            violation: None,
            is_blocked: false,
            refusals: 0,
            wrong_picks: 0,
            sessions: 0,
            told: 0,
            open: Vec::new(),
            trace: tells.then(Vec::new),
            scenario,
        }
    }

    /// Adds a line to the trace.
    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:8.3}  {}", self.now as f64 / 1_000.0, line()));
        }
    }

    /// Runs until the cluster is stable, a check fails, or the time is over.
    pub fn run(mut self) -> Outcome {
        self.begin();
        let mut at_rest = 0;
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            if event == Event::Check {
                at_rest = if self.check_all() { at_rest + 1 } else { 0 };
                // Stable, and still stable a little later.
                if at_rest >= 4 || at >= self.scenario.end {
                    break;
                }
                self.queue.plan(at + 1_000, Event::Check);
            } else {
                self.happen(event);
            }
            if self.violation.is_some() {
                break;
            }
        }
        Outcome {
            violation: self.violation,
            trace: self.trace.unwrap_or_default(),
            is_blocked: self.is_blocked,
            refusals: self.refusals,
            wrong_picks: self.wrong_picks,
            sessions: self.sessions,
            told: self.told,
            ended: self.now,
        }
    }

    fn begin(&mut self) {
        let Scenario { clients, gateways, is_quiet, calm, .. } = self.scenario;
        self.tell_beginning();
        self.start_operator();
        for gateway in 0..gateways {
            let at = self.now + self.rng.random_range(0..500);
            self.queue.plan(at, Event::Poll(gateway));
        }
        for client in 0..clients {
            let came =
                if is_quiet { self.rng.random_range(14_000..22_000) } else { self.rng.random_range(1_000..20_000) };
            self.queue.plan(came, Event::Knock(client, 0));
            self.clients[client as usize].homeless_since = came;
        }
        for index in 0..self.scenario.edits.len() {
            self.queue.plan(self.scenario.edits[index].0.max(self.now), Event::Edit(index));
        }
        for index in 0..self.scenario.faults.len() {
            self.queue.plan(self.scenario.faults[index].0.max(self.now), Event::Break(index));
        }
        for &(at, client) in &self.scenario.leaving {
            self.queue.plan(at, Event::Leave(client));
        }
        self.trouble_at = calm.min(20_000);
        self.queue.plan(self.now + 1_000, Event::Check);
    }

    fn tell_beginning(&mut self) {
        let Scenario { seed, clients, gateways, is_quiet, calm, pace, .. } = self.scenario;
        let (spec, templates) = (self.spec.clone(), self.scenario.templates.clone());
        let kind = if is_quiet { "quiet" } else { "with faults" };
        self.trace(|| {
            format!("seed {seed}, {kind}: {clients} clients, {gateways} gateways, calm from {} s", calm / 1_000)
        });
        self.trace(|| format!("{pace:?}"));
        self.trace(|| format!("{spec:?}"));
        for (revision, template) in templates.iter().enumerate() {
            self.trace(|| format!("r{revision}: {template:?}"));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Edit(index) => {
                self.spec = self.scenario.edits[index].1.clone();
                self.trouble();
                let spec = self.spec.clone();
                self.trace(|| format!("EDIT {spec:?}"));
            }
            Event::Break(index) => self.break_something(index),
            Event::Mend(index) => self.mend(index),
            Event::Observe(epoch) => self.observe(epoch),
            Event::Act(epoch) => self.act(epoch),
            Event::Ask(epoch) => self.ask(epoch),
            Event::OperatorStarts => self.start_operator(),
            Event::Sync => self.sync(),
            Event::Start(uid) => self.start(uid),
            Event::Filled(uid, incarnation) => self.filled(uid, incarnation),
            Event::Evict(uid, number) => self.evict(uid, number),
            Event::DrainOver(uid, number) => self.drain_over(uid, number),
            Event::Kill(uid) => self.kill(uid),
            Event::Gone(uid) => self.gone(uid),
            Event::Ghost(uid, incarnation) => self.ghost(uid, incarnation),
            Event::Discover(gateway) => self.discover(gateway),
            Event::Poll(gateway) => {
                if self.gateways[gateway].is_up {
                    self.poll(gateway);
                }
                let next = self.now + self.jitter(self.scenario.pace.poll);
                self.queue.plan(next, Event::Poll(gateway));
            }
            Event::GatewayStarts(gateway) => self.start_gateway(gateway),
            Event::Knock(client, epoch) => self.knock(client, epoch),
            Event::Upgrade(client, epoch, uid) => self.upgrade(client, epoch, uid),
            Event::Timeout(client, epoch, uid) => self.timed_out(client, epoch, uid),
            Event::Retry(client, epoch) => self.retry(client, epoch),
            Event::Leave(client) => self.leave(client),
            Event::Check => {}
        }
    }
}
