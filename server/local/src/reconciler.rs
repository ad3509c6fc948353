//! What a run is to become, and its way there: takes edits of the manifest, and carries out the plan that an operator would carry
//! out on Kubernetes, step by step and each with its reason.
//!
//! Shards follow [`wscluster_plan::plan`], gateways [`rollout`]. Called again and again; each time it looks anew.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use wscluster_admin::client::{AdminClient, CallError};
use wscluster_admin::drain::EvictRequest;
use wscluster_admin::health;
use wscluster_api::WsCluster;
use wscluster_api::spec::{Drain, TopicSelector};
use wscluster_api::units::Span;
use wscluster_kafka::embedded::{Embedded, EmbeddedError};
use wscluster_kafka::{self, SourceError};
use wscluster_plan::{
    Action, Autoscaler, Desired, Observed, Plan, Reason, RebalanceRounds, Reconnecting, ScaleReason, State, Timestamp,
    plan,
};

use super::edit_rules::{FixedField, Given, applicable, changes};
use super::event::{Event, millis};
use super::fleet::{Fleet, FleetError, Part};
use super::health_poller::{Shared, with};
use super::manifest_watcher::Edit;
use super::observe::observed;
use super::program::Kind;
use super::revision::Version;
use super::rollout::{self, Seen};

/// Time a shard has to take an order.
const WITHIN: Duration = Duration::from_secs(1);
/// A shard that was drained has this long to end: connections whose Close nobody answered are cut after five seconds.
const EMPTY: Duration = Duration::from_secs(10);
/// How old an answer may be, beside the time that clients take to come back.
const LATE: Duration = Duration::from_secs(2);

/// Where a run goes.
pub struct Course {
    given: Given,
    cluster: WsCluster,
    shard: Version,
    gateway: Version,
    broker: Option<Embedded>,
    board: Shared,
    /// Shards that there should be now, as the replicas of a `StatefulSet`.
    replicas: u32,
    /// Shards that are wanted.
    shards: u32,
    autoscaler: Autoscaler,
    reconnecting: Reconnecting,
    rounds: RebalanceRounds,
    admin: AdminClient,
    calls: JoinSet<Called>,
    epoch: Instant,
    edited: Option<Instant>,
    /// The action that each shard was told about last.
    told: BTreeMap<u32, &'static str>,
    blocked: Option<&'static str>,
    trouble: Option<String>,
}

/// Why an edit is not applied.
#[derive(Debug, thiserror::Error)]
enum RefusedEdit {
    #[error(transparent)]
    Manifest(#[from] wscluster_api::manifest::ManifestError),
    #[error(transparent)]
    Fixed(#[from] FixedField),
    #[error(transparent)]
    Topic(#[from] EmbeddedError),
    #[error(transparent)]
    Kafka(#[from] SourceError),
}

/// An order to a shard that was answered, or not.
#[derive(Debug)]
pub struct Called {
    ordinal: u32,
    call: Call,
    result: Result<(), CallError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Drain,
    Undrain,
    Evict,
}

impl Course {
    /// The course of a run that starts as `cluster` says.
    pub fn new(cluster: WsCluster, given: Given, broker: Option<Embedded>, board: Shared) -> Self {
        let mut autoscaler = Autoscaler::default();
        let shards = autoscaler.wanted(&cluster.spec, None, 0, Timestamp(Duration::ZERO)).shards;
        Self {
            given,
            shard: Version::new(Kind::Shard, &cluster),
            gateway: Version::new(Kind::Gateway, &cluster),
            broker,
            board,
            replicas: shards,
            shards,
            autoscaler,
            reconnecting: Reconnecting::new(cluster.spec.drain.retry_after.max.0 + LATE),
            rounds: RebalanceRounds::default(),
            cluster,
            admin: AdminClient::new(WITHIN),
            calls: JoinSet::new(),
            epoch: Instant::now(),
            edited: None,
            told: BTreeMap::new(),
            blocked: None,
            trouble: None,
        }
    }

    /// What the run is to be.
    pub fn cluster(&self) -> &WsCluster {
        &self.cluster
    }

    /// Starts all that the manifest asks for.
    pub fn begin(&self, fleet: &mut Fleet) -> Result<(), FleetError> {
        (0..self.replicas).try_for_each(|ordinal| fleet.start_shard(ordinal, &self.shard))?;
        (0..self.cluster.spec.gateway.replicas).try_for_each(|_| fleet.start_gateway(&self.gateway).map(drop))
    }

    /// Takes an edit of the manifest, or refuses it; says which.
    pub fn edit(&mut self, edit: Edit, fleet: &Fleet) -> Event {
        let drain = self.cluster.spec.drain.clone();
        match self.adopt(edit) {
            Ok(changes) => {
                if drain != self.cluster.spec.drain {
                    self.adjust(fleet);
                }
                Event::Edited { changes }
            }
            Err(error) => Event::EditRefused { error: error.to_string() },
        }
    }

    /// A gateway that is replaced was started with another drain: it moves its clients at the pace of now.
    fn adjust(&mut self, fleet: &Fleet) {
        for part in fleet.gateways() {
            let (address, drain) = (part.at.admin, self.cluster.spec.drain.clone());
            let admin = self.admin.clone();
            tokio::spawn(async move {
                // One that does not answer has nobody to move, or is about to be ended as one that hangs.
                if let Err(error) = admin.configure_drain(address, &drain).await {
                    tracing::warn!(%error, "gateway keeps its drain rate");
                }
            });
        }
    }

    fn adopt(&mut self, edit: Edit) -> Result<Vec<String>, RefusedEdit> {
        let cluster = edit?;
        applicable(&self.cluster, &cluster, self.given)?;
        wscluster_kafka::check(&cluster.spec.source.kafka)?;
        if let Some(broker) = &self.broker {
            for topic in &cluster.spec.source.kafka.topics {
                if let TopicSelector::Name(name) = topic.selector()
                    && !self.cluster.spec.source.kafka.topics.iter().any(|known| known.name == *name)
                {
                    broker.create_topic(name, topic.partitions)?;
                }
            }
        }
        let changes = changes(&self.cluster.spec, &cluster.spec);
        (self.shard, self.gateway) = (Version::new(Kind::Shard, &cluster), Version::new(Kind::Gateway, &cluster));
        with(&self.board, |board| board.set_capacity(cluster.spec.capacity));
        if cluster.spec.drain.retry_after != self.cluster.spec.drain.retry_after {
            self.reconnecting = Reconnecting::new(cluster.spec.drain.retry_after.max.0 + LATE);
        }
        self.cluster = cluster;
        (self.edited, self.blocked) = (Some(Instant::now()), None);
        self.told.clear();
        Ok(changes)
    }

    /// Waits for the answer to an order; none when there is no order.
    pub async fn called(&mut self) -> Option<Called> {
        loop {
            match self.calls.join_next().await? {
                Ok(called) => return Some(called),
                Err(error) => tracing::error!(%error, "order to a shard ended"),
            }
        }
    }

    /// Takes note of that answer.
    pub fn note(&mut self, called: Called, fleet: &mut Fleet) {
        let Called { ordinal, call, result } = called;
        let Some(part) = fleet.shard(ordinal) else { return };
        let now = Instant::now();
        // Without an answer it may have been heard all the same.
        part.acted = Some(now);
        match (call, result) {
            (Call::Drain, Ok(())) => part.drain = part.drain.or(Some(now)),
            (Call::Undrain, Ok(())) => part.drain = None,
            (Call::Evict, Ok(())) => {}
            (_, Err(error)) => {
                tracing::warn!(%error, shard = &*part.name, "shard did not take an order; it is tried again");
            }
        }
    }

    /// Does what is to be done now, and returns what is to be told of it.
    pub fn pursue(&mut self, fleet: &mut Fleet) -> Vec<Event> {
        let now = Instant::now();
        fleet.press(now);
        let mut events = Vec::new();
        let seen = with(&self.board, |board| observed(fleet.shards(), board, self.replicas, self.epoch, now));
        let Some(mut observed) = seen.filter(|_| self.calls.is_empty()) else { return events };
        let at = Timestamp(now.saturating_duration_since(self.epoch));
        self.reconnecting.note(&mut observed, at);
        events.extend(self.scale(&observed, at));
        let desired = self.desired();
        let plan = plan(&desired, &observed, at);
        let done = self.shards(&plan, fleet, &mut events).and_then(|()| self.gateways(fleet, &mut events));
        let trouble = done.err().map(|error| error.to_string());
        if trouble != self.trouble {
            events.extend(trouble.clone().map(|reason| Event::Blocked { reason }));
            self.trouble = trouble;
        }
        self.rebalance(&plan, &observed, at, fleet, &mut events);
        self.arrived(&plan, &desired, &observed, fleet, &mut events);
        events
    }

    /// Finds out how many shards are wanted; tells it when the connections ask for another number.
    fn scale(&mut self, observed: &Observed, now: Timestamp) -> Option<Event> {
        let connections = observed.shards.iter().map(|shard| shard.connections).sum();
        let wanted = self.autoscaler.wanted(&self.cluster.spec, Some(self.replicas), connections, now);
        let from = std::mem::replace(&mut self.shards, wanted.shards);
        let is_told = from == wanted.shards || wanted.reason == ScaleReason::Declared;
        (!is_told).then(|| Event::Scaled { from, to: wanted.shards, reason: wanted.reason.to_string() })
    }

    /// Has shards let go those who move to emptier ones.
    fn rebalance(
        &mut self,
        plan: &Plan,
        observed: &Observed,
        at: Timestamp,
        fleet: &mut Fleet,
        events: &mut Vec<Event>,
    ) {
        let Some(rules) = &self.cluster.spec.rebalance else { return };
        let retry_after = &self.cluster.spec.drain.retry_after;
        for evict in self.rounds.next(rules, observed, plan, retry_after.max.0 + LATE, at) {
            let wscluster_plan::Evict { ordinal, count, rate } = evict;
            let Some(part) = fleet.shard(ordinal) else { continue };
            let (name, address, admin) = (part.name.clone(), part.at.admin, self.admin.clone());
            let order = EvictRequest { count, evict_rate: rate, retry_after: retry_after.clone() };
            self.calls.spawn(async move {
                let result = admin.evict(address, &order).await;
                Called { ordinal, call: Call::Evict, result }
            });
            let reason = format!("{count} connections move to emptier shards, {rate}/s");
            events.push(Event::Step { name, action: "evict", reason });
        }
    }

    fn desired(&self) -> Desired {
        // Nobody is there to approve a step.
        Desired {
            shards: self.shards,
            supervised: false,
            ..Desired::new(&self.cluster.spec, self.shard.revision.clone())
        }
    }

    fn shards(&mut self, plan: &Plan, fleet: &mut Fleet, events: &mut Vec<Event>) -> Result<(), FleetError> {
        self.replicas = plan.replicas;
        let surplus = |part: &&Part| part.ordinal >= plan.replicas && part.leaving.is_none();
        let surplus: Vec<_> = fleet.shards().filter(surplus).map(|part| part.name.clone()).collect();
        for name in &surplus {
            fleet.remove(name, EMPTY);
        }
        for step in &plan.steps {
            let ordinal = step.ordinal;
            let name = fleet.shard_name(ordinal);
            let part = fleet.shard(ordinal);
            let action = match (step.action, part) {
                (Action::Wait, None) if ordinal < plan.replicas => {
                    fleet.start_shard(ordinal, &self.shard)?;
                    "start"
                }
                (Action::Drain { rate, deadline }, Some(part)) => {
                    let drain = Drain { evict_rate: rate, deadline: Span(deadline), ..self.cluster.spec.drain.clone() };
                    let (address, admin) = (part.at.admin, self.admin.clone());
                    self.calls.spawn(async move {
                        let result = admin.begin_drain(address, &drain).await;
                        Called { ordinal, call: Call::Drain, result }
                    });
                    "drain"
                }
                // A drain that a person began by hand is not ours to end.
                (Action::Undrain, Some(part)) if part.drain.is_some() => {
                    let (address, admin) = (part.at.admin, self.admin.clone());
                    self.calls.spawn(async move {
                        let result = admin.cancel_drain(address).await;
                        Called { ordinal, call: Call::Undrain, result }
                    });
                    "undrain"
                }
                (Action::Remove, Some(_)) => "remove",
                // Also below the plan's partition: there is no older version to come back to here.
                (Action::Restart, Some(_)) => {
                    fleet.restart_shard(ordinal, &self.shard, EMPTY)?;
                    "restart"
                }
                _ => {
                    if matches!(step.reason, Reason::Serves { .. }) {
                        self.told.remove(&ordinal);
                    }
                    continue;
                }
            };
            if self.told.insert(ordinal, action) != Some(action) {
                events.push(Event::Step { name, action, reason: step.reason.to_string() });
            }
        }
        with(&self.board, |board| board.set_waiting(plan.blocked.as_ref().map(ToString::to_string)));
        let blocked = plan.blocked.as_ref().map(kind);
        if blocked != self.blocked {
            events.extend(plan.blocked.as_ref().map(|blocked| Event::Blocked { reason: blocked.to_string() }));
            self.blocked = blocked;
        }
        Ok(())
    }

    fn gateways(&mut self, fleet: &mut Fleet, events: &mut Vec<Event>) -> Result<(), FleetError> {
        if self.cluster.spec.paused {
            return Ok(());
        }
        match rollout::next(self.cluster.spec.gateway.replicas, &self.seen(fleet)) {
            None => {}
            Some(rollout::Step::Start(why)) => {
                let name = fleet.start_gateway(&self.gateway)?;
                events.push(Event::Step { name, action: "start", reason: format!("is being created: {why}") });
            }
            Some(rollout::Step::Stop(place, why)) => {
                let name = fleet.gateways().nth(place).map(|part| part.name.clone());
                if let Some(name) = name {
                    fleet.remove(&name, self.cluster.spec.drain.deadline.0 + EMPTY);
                    events.push(Event::Step { name, action: "remove", reason: format!("goes: {why}") });
                }
            }
        }
        Ok(())
    }

    fn seen(&self, fleet: &Fleet) -> Vec<Seen> {
        let seen = fleet.gateways().map(|part| Seen {
            is_current: part.revision == self.gateway.revision,
            is_ready: with(&self.board, |board| {
                let row = board.gateways().iter().find(|row| row.ordinal == part.ordinal);
                row.and_then(|row| row.health.as_ref()).is_some_and(|health| health.state == health::State::Ready)
            }),
            is_leaving: part.leaving.is_some(),
        });
        seen.collect()
    }

    /// Tells when all is as the manifest says.
    fn arrived(&mut self, plan: &Plan, desired: &Desired, observed: &Observed, fleet: &Fleet, events: &mut Vec<Event>) {
        let serves = |shard: &wscluster_plan::Shard| {
            shard.revision == desired.revision && matches!(shard.state, State::Ready | State::Full)
        };
        let shards = observed.shards.len() == desired.shards as usize && observed.shards.iter().all(serves);
        let gateways = self.seen(fleet);
        let replicas = self.cluster.spec.gateway.replicas as usize;
        let current = |gateway: &Seen| gateway.is_current && gateway.is_ready && !gateway.is_leaving;
        let gateways = gateways.len() == replicas && gateways.iter().all(current);
        let is_quiet = plan.blocked.is_none()
            && plan.replicas == desired.shards
            && with(&self.board, |board| board.missing().is_empty());
        if shards
            && gateways
            && is_quiet
            && let Some(edited) = self.edited.take()
        {
            events.push(Event::Applied { took_ms: millis(edited.elapsed()) });
        }
    }
}

/// A reason without its numbers: what changes with every look is told once.
fn kind(blocked: &wscluster_plan::Blocked) -> &'static str {
    use wscluster_plan::Blocked;
    match blocked {
        Blocked::Slots { .. } => "slots",
        Blocked::Surge { .. } => "surge",
        Blocked::NotReady { .. } => "not_ready",
        Blocked::UnknownToGateways { .. } => "unrouted",
        Blocked::Unreachable { .. } => "unreached",
        Blocked::Approval { .. } => "approval",
        Blocked::Behind { .. } => "behind",
        Blocked::InMotion { .. } => "in_motion",
        Blocked::Paused => "paused",
    }
}
