//! Moves a run towards its manifest: accepts or rejects edits, and carries out the plan that the operator carries out
//! on Kubernetes, one step at a time.
//!
//! Shards follow [`wscluster_plan::plan`], gateways [`rollout`]. [`Reconciler::reconcile`] is called again and again
//! and keeps no plan between calls.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use wscluster_admin::client::AdminClient;
use wscluster_admin::drain::EvictRequest;
use wscluster_admin::health;
use wscluster_api::spec::{Drain, TopicSelector};
use wscluster_api::units::Span;
use wscluster_api::{Part, WsCluster};
use wscluster_kafka::embedded::{Embedded, EmbeddedError};
use wscluster_kafka::{self, SourceError};
use wscluster_plan::{
    Action, Autoscaler, Blocked, Desired, Observed, Plan, Reason, RebalanceRounds, Reconnecting, ScaleReason, State,
    Timestamp, plan,
};

use super::edit_rules::{FixedField, Overrides, applicable, changes};
use super::event::{Event, StepAction, millis};
use super::fleet::{Child, Fleet, FleetError};
use super::manifest_watcher::Edit;
use super::observe::observed;
use super::revision::Revision;
use super::rollout::{self, GatewaySnapshot, RolloutStep};
use super::state::{SharedState, with};

mod orders;

pub(crate) use self::orders::CallResult;
use self::orders::{ChildCall, order};

/// Time for a drained shard to end: after five seconds it cuts connections whose clients have not answered its Close.
const EMPTY: Duration = Duration::from_secs(10);
/// Age that an answer may have, added to the time after which clients reconnect.
const LATE: Duration = Duration::from_secs(2);

/// The manifest that applies, and the progress towards it.
pub(crate) struct Reconciler {
    overrides: Overrides,
    cluster: WsCluster,
    shard_revision: Revision,
    gateway_revision: Revision,
    broker: Option<Embedded>,
    state: SharedState,
    /// Shards that should exist now, like the replicas of a `StatefulSet`.
    replicas: u32,
    /// Shards that the manifest or the autoscaler wants.
    shards: u32,
    autoscaler: Autoscaler,
    reconnecting: Reconnecting,
    rounds: RebalanceRounds,
    admin: AdminClient,
    calls: JoinSet<CallResult>,
    epoch: Instant,
    edited: Option<Instant>,
    /// The action last reported for each shard.
    reported: BTreeMap<u32, StepAction>,
    /// The kind of the reported block: its numbers change with every look.
    blocked: Option<Discriminant<Blocked>>,
    /// The last reported error.
    error: Option<String>,
}

/// Why an edit is rejected.
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

impl Reconciler {
    /// A run that starts with `cluster`; `broker` is the embedded one.
    pub(crate) fn new(
        cluster: WsCluster,
        overrides: Overrides,
        broker: Option<Embedded>,
        state: SharedState,
        admin: AdminClient,
    ) -> Self {
        let mut autoscaler = Autoscaler::default();
        let shards = autoscaler.wanted(&cluster.spec, None, 0, Timestamp(Duration::ZERO)).shards;
        Self {
            overrides,
            shard_revision: Revision::new(Part::Shard, &cluster),
            gateway_revision: Revision::new(Part::Gateway, &cluster),
            broker,
            state,
            replicas: shards,
            shards,
            autoscaler,
            reconnecting: Reconnecting::new(cluster.spec.drain.retry_after.max.0 + LATE),
            rounds: RebalanceRounds::default(),
            cluster,
            admin,
            calls: JoinSet::new(),
            epoch: Instant::now(),
            edited: None,
            reported: BTreeMap::new(),
            blocked: None,
            error: None,
        }
    }

    /// The manifest that applies.
    pub(crate) fn cluster(&self) -> &WsCluster {
        &self.cluster
    }

    /// Starts every shard and gateway of the manifest.
    pub(crate) fn start_all(&self, fleet: &mut Fleet) -> Result<(), FleetError> {
        (0..self.replicas).try_for_each(|ordinal| fleet.start_shard(ordinal, &self.shard_revision))?;
        (0..self.cluster.spec.gateway.replicas).try_for_each(|_| fleet.start_gateway(&self.gateway_revision).map(drop))
    }

    /// Accepts or rejects an edit of the manifest, and returns the event that reports it.
    pub(crate) fn edit(&mut self, edit: Edit, fleet: &Fleet) -> Event {
        let drain = self.cluster.spec.drain.clone();
        match self.adopt(edit) {
            Ok(changes) => {
                if drain != self.cluster.spec.drain {
                    self.update_drains(fleet);
                }
                Event::Edited { changes }
            }
            Err(error) => Event::EditRefused { error: error.to_string() },
        }
    }

    fn adopt(&mut self, edit: Edit) -> Result<Vec<String>, RefusedEdit> {
        let cluster = edit?;
        applicable(&self.cluster, &cluster, self.overrides)?;
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
        (self.shard_revision, self.gateway_revision) =
            (Revision::new(Part::Shard, &cluster), Revision::new(Part::Gateway, &cluster));
        with(&self.state, |state| state.set_capacity(cluster.spec.capacity));
        if cluster.spec.drain.retry_after != self.cluster.spec.drain.retry_after {
            self.reconnecting = Reconnecting::new(cluster.spec.drain.retry_after.max.0 + LATE);
        }
        self.cluster = cluster;
        (self.edited, self.blocked) = (Some(Instant::now()), None);
        self.reported.clear();
        Ok(changes)
    }

    /// Takes the steps that are due now, and returns the events that report them.
    pub(crate) fn reconcile(&mut self, fleet: &mut Fleet) -> Vec<Event> {
        let now = Instant::now();
        fleet.escalate(now);
        let mut events = Vec::new();
        let observed = with(&self.state, |state| observed(fleet.shards(), state, self.replicas, self.epoch, now));
        let Some(mut observed) = observed.filter(|_| self.calls.is_empty()) else { return events };
        self.take_back_drains(fleet, &mut events);
        if !self.calls.is_empty() {
            return events;
        }
        let at = Timestamp(now.saturating_duration_since(self.epoch));
        self.reconnecting.note(&mut observed, at);
        events.extend(self.scale(&observed, at));
        let desired = self.desired();
        let plan = plan(&desired, &observed, at);
        let done = self.shards(&plan, fleet, &mut events).and_then(|()| self.gateways(fleet, &mut events));
        let error = done.err().map(|error| error.to_string());
        if error != self.error {
            events.extend(error.clone().map(|reason| Event::Blocked { reason }));
            self.error = error;
        }
        self.rebalance(&plan, &observed, at, fleet, &mut events);
        self.check_applied(&plan, &desired, &observed, fleet, &mut events);
        events
    }

    /// Computes the wanted number of shards; returns an event if the connections changed it.
    fn scale(&mut self, observed: &Observed, now: Timestamp) -> Option<Event> {
        let connections = observed.shards.iter().map(|shard| shard.connections).sum();
        let wanted = self.autoscaler.wanted(&self.cluster.spec, Some(self.replicas), connections, now);
        let from = std::mem::replace(&mut self.shards, wanted.shards);
        let is_known = from == wanted.shards || wanted.reason == ScaleReason::Declared;
        (!is_known).then(|| Event::Scaled { from, to: wanted.shards, reason: wanted.reason.to_string() })
    }

    /// Lets the fullest shards close connections, which then move to emptier shards.
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
            let Some(child) = fleet.shard(ordinal) else { continue };
            let (name, address, admin) = (child.name.clone(), child.at.admin, self.admin.clone());
            let evict = EvictRequest { count, evict_rate: rate, retry_after: retry_after.clone() };
            order(&mut self.calls, name.clone(), ChildCall::Evict, async move { admin.evict(address, &evict).await });
            let reason = format!("{count} connections move to emptier shards, {rate}/s");
            events.push(Event::Step { name, action: StepAction::Evict, reason });
        }
    }

    fn desired(&self) -> Desired {
        // There is no way to approve a step here.
        Desired {
            shards: self.shards,
            supervised: false,
            ..Desired::new(&self.cluster.spec, self.shard_revision.id.clone())
        }
    }

    fn shards(&mut self, plan: &Plan, fleet: &mut Fleet, events: &mut Vec<Event>) -> Result<(), FleetError> {
        self.replicas = plan.replicas;
        let surplus = |child: &&Child| child.ordinal >= plan.replicas && child.leaving.is_none();
        let surplus: Vec<_> = fleet.shards().filter(surplus).map(|child| child.name.clone()).collect();
        for name in &surplus {
            fleet.remove(name, EMPTY);
        }
        for step in &plan.steps {
            let ordinal = step.ordinal;
            let name = fleet.shard_name(ordinal);
            let child = fleet.shard(ordinal);
            let action = match (step.action, child) {
                (Action::Wait, None) if ordinal < plan.replicas => {
                    fleet.start_shard(ordinal, &self.shard_revision)?;
                    StepAction::Start
                }
                (Action::Drain { rate, deadline }, Some(child)) => {
                    let drain = Drain { evict_rate: rate, deadline: Span(deadline), ..self.cluster.spec.drain.clone() };
                    let (address, admin) = (child.at.admin, self.admin.clone());
                    order(&mut self.calls, name.clone(), ChildCall::Drain, async move {
                        admin.begin_drain(address, &drain).await
                    });
                    StepAction::Drain
                }
                (Action::Undrain, Some(child)) if !child.is_ending => {
                    let address = child.at.admin;
                    self.undrain(name.clone(), address);
                    StepAction::Undrain
                }
                (Action::Remove, Some(_)) => StepAction::Remove,
                // Also below the plan's partition: here a restart always starts the wanted revision.
                (Action::Restart, Some(_)) => {
                    fleet.restart_shard(ordinal, &self.shard_revision, EMPTY)?;
                    StepAction::Restart
                }
                _ => {
                    if matches!(step.reason, Reason::Serves { .. }) {
                        self.reported.remove(&ordinal);
                    }
                    continue;
                }
            };
            if self.reported.insert(ordinal, action) != Some(action) {
                events.push(Event::Step { name, action, reason: step.reason.to_string() });
            }
        }
        with(&self.state, |state| state.set_waiting(plan.blocked.as_ref().map(ToString::to_string)));
        let blocked = plan.blocked.as_ref().map(discriminant);
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
        match rollout::next(self.cluster.spec.gateway.replicas, &self.gateway_snapshots(fleet)) {
            None => {}
            Some(RolloutStep::Start(why)) => {
                let name = fleet.start_gateway(&self.gateway_revision)?;
                events.push(Event::Step {
                    name,
                    action: StepAction::Start,
                    reason: format!("is being created: {why}"),
                });
            }
            Some(RolloutStep::Stop(index, why)) => {
                let name = fleet.gateways().nth(index).map(|child| child.name.clone());
                if let Some(name) = name {
                    fleet.remove(&name, self.cluster.spec.drain.deadline.0 + EMPTY);
                    events.push(Event::Step {
                        name,
                        action: StepAction::Remove,
                        reason: format!("is being removed: {why}"),
                    });
                }
            }
        }
        Ok(())
    }

    fn gateway_snapshots(&self, fleet: &Fleet) -> Vec<GatewaySnapshot> {
        let snapshots = fleet.gateways().map(|child| GatewaySnapshot {
            is_current: child.revision == self.gateway_revision.id,
            is_ready: with(&self.state, |state| {
                let known = state.gateways().iter().find(|known| known.ordinal == child.ordinal);
                known.and_then(|known| known.health.as_ref()).is_some_and(|health| health.state == health::State::Ready)
            }),
            is_leaving: child.leaving.is_some(),
        });
        snapshots.collect()
    }

    /// Reports once when everything is as the manifest declares.
    fn check_applied(
        &mut self,
        plan: &Plan,
        desired: &Desired,
        observed: &Observed,
        fleet: &Fleet,
        events: &mut Vec<Event>,
    ) {
        let serves = |shard: &wscluster_plan::Shard| {
            shard.revision == desired.revision && matches!(shard.state, State::Ready | State::Full)
        };
        let shards = observed.shards.len() == desired.shards as usize && observed.shards.iter().all(serves);
        let gateways = self.gateway_snapshots(fleet);
        let replicas = self.cluster.spec.gateway.replicas as usize;
        let current = |gateway: &GatewaySnapshot| gateway.is_current && gateway.is_ready && !gateway.is_leaving;
        let gateways = gateways.len() == replicas && gateways.iter().all(current);
        let is_quiet = plan.blocked.is_none()
            && plan.replicas == desired.shards
            && with(&self.state, |state| state.missing().is_empty());
        if shards
            && gateways
            && is_quiet
            && let Some(edited) = self.edited.take()
        {
            events.push(Event::Applied { took_ms: millis(edited.elapsed()) });
        }
    }
}
