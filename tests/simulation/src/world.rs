//! One run: the state of everything, and the loop that lets it happen.

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

/// Everything there is.
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
    /// What is broken: index, what, since when.
    pub(crate) active: Vec<(usize, Fault, Ms)>,
    /// Shards that the operator did not reach: ordinal, from, until.
    pub(crate) heals: Vec<(u32, Ms, Ms)>,
    /// Shards that the operator does not reach: ordinal, since when.
    pub(crate) dark: Vec<(u32, Ms)>,
    pub(crate) trouble_at: Ms,
    pub(crate) violation: Option<String>,
    pub(crate) is_blocked: bool,
    pub(crate) refusals: u64,
    pub(crate) wrong_picks: u64,
    pub(crate) sessions: u64,
    pub(crate) told: u64,
    /// For picks, so that not each makes a list.
    pub(crate) open: Vec<Member>,
    story: Option<Vec<String>>,
}

/// How a run ended.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What did not hold.
    pub violation: Option<String>,
    /// What happened, where it was asked for.
    pub story: Vec<String>,
    /// Whether the plan waits in the end, for want of slots.
    pub is_blocked: bool,
    /// Handshakes that ended in a 503.
    pub refusals: u64,
    /// Shards that refused an upgrade.
    pub wrong_picks: u64,
    /// Connections that were made.
    pub sessions: u64,
    /// Clients that were told of a gap.
    pub told: u64,
    /// When it ended, in virtual time.
    pub ended: Ms,
}

/// Plays the scenario of `seed`.
pub fn run(seed: u64, mutant: Option<Mutant>, tells: bool) -> Outcome {
    let scenario = Scenario::draw(seed);
    World::new(scenario, mutant, tells).run()
}

impl World {
    /// The world before anything has happened.
    pub fn new(scenario: Scenario, mutant: Option<Mutant>, tells: bool) -> Self {
        let client = Client { state: State::Away, epoch: 0, position: None, homeless_since: 0 };
        let gateway = Gateway { is_up: true, members: Vec::new() };
        Self {
            // So that no moment is 0, which stands for never.
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
            story: tells.then(Vec::new),
            scenario,
        }
    }

    /// A line of the story.
    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:8.3}  {}", self.now as f64 / 1_000.0, line()));
        }
    }

    /// Until everything has come to rest, something does not hold, or time is up.
    pub fn run(mut self) -> Outcome {
        self.begin();
        let mut at_rest = 0;
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            if event == Event::Check {
                at_rest = if self.check_all() { at_rest + 1 } else { 0 };
                // At rest, and still so a little later.
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
            story: self.story.unwrap_or_default(),
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
        self.tell(|| {
            format!("seed {seed}, {kind}: {clients} clients, {gateways} gateways, calm from {} s", calm / 1_000)
        });
        self.tell(|| format!("{pace:?}"));
        self.tell(|| format!("{spec:?}"));
        for (revision, template) in templates.iter().enumerate() {
            self.tell(|| format!("r{revision}: {template:?}"));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Edit(index) => {
                self.spec = self.scenario.edits[index].1.clone();
                self.trouble();
                let spec = self.spec.clone();
                self.tell(|| format!("EDIT {spec:?}"));
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
