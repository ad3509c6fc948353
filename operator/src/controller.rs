//! The loop: observe → validate → plan → build → apply → act → status, one cluster at a time, as often as anything moves.
//!
//! A reconcile of a cluster where nothing moved reads caches and writes nothing. Only the holder of the lease gets this far. A cluster
//! that fails is tried again later and later; until then its status goes on telling the truth.

mod announce;
mod backoff;
mod failure;
mod malformed;
mod memory;
mod target;
mod write;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::{Action, Config, Error as ControllerError, applier};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource as _};
use tokio::time::Instant;
use tracing::{Instrument as _, warn};
use wscluster_api::WsCluster;
use wscluster_plan::Plan;

pub use self::failure::ReconcileError;
use self::memory::Memory;
pub use self::target::APPROVE;
use crate::act::{Actor, act, rebalance, take_back};
use crate::apply::apply;
use crate::build::{Decided, build, grace};
use crate::events::Events;
use crate::events::transitions::transitions;
use crate::health::{ClusterName, Health};
use crate::lease::Until;
use crate::metrics::Metrics;
use crate::observe::{self, Observed, observe};
use crate::settings::Settings;
use crate::status::{Input, Moved, Outcome, Target, moved, status};
use crate::validate::validate;
use crate::watch::{Guarded, Scope};

/// Reconciles under way at once.
const AT_ONCE: u16 = 16;
/// Events that come together are one reconcile.
const TOGETHER: Duration = Duration::from_millis(100);
/// A look at every cluster although nothing was heard of it.
const UNASKED: Duration = Duration::from_mins(5);

/// What every reconcile shares.
pub struct Operator {
    /// Writes only while the lease is held.
    pub client: Client,
    /// What the operator was told for all clusters.
    pub settings: Settings,
    /// How shards are.
    pub health: Health,
    /// Tells people.
    pub events: Events,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Until when this process may write.
    pub until: Until,
    memories: Mutex<HashMap<ClusterName, Arc<tokio::sync::Mutex<Memory>>>>,
}

struct Context {
    operator: Arc<Operator>,
    scope: Scope,
}

impl Operator {
    /// Knows no cluster yet.
    pub fn new(
        client: Client,
        settings: Settings,
        health: Health,
        events: Events,
        metrics: Arc<Metrics>,
        until: Until,
    ) -> Self {
        Self { client, settings, health, events, metrics, until, memories: Mutex::default() }
    }

    /// Whether this process may write now.
    pub fn leads(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Forgets what another process will find out for itself.
    pub fn rest(&self) {
        self.health.forget_all();
        self.lock().clear();
    }

    fn actor<'a>(&'a self, cluster: &'a WsCluster) -> Actor<'a> {
        let Self { client, health, metrics, until, .. } = self;
        Actor { client, health, metrics, cluster, until }
    }

    fn memory(&self, cluster: &ClusterName) -> Arc<tokio::sync::Mutex<Memory>> {
        Arc::clone(self.lock().entry(cluster.clone()).or_default())
    }

    fn forget(&self, cluster: &ClusterName) {
        self.health.forget(cluster);
        self.lock().remove(cluster);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ClusterName, Arc<tokio::sync::Mutex<Memory>>>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reconciles the clusters that `named` names, until it ends; what is under way then is finished.
pub async fn run(operator: Arc<Operator>, scope: Scope, named: impl Stream<Item = ObjectRef<Guarded>>) {
    let (clusters, namespace) = (scope.clusters.clone(), scope.namespace.clone());
    let known = clusters.clone();
    let context = Arc::new(Context { operator: Arc::clone(&operator), scope });
    let config = Config::default().concurrency(AT_ONCE).debounce(TOGETHER);
    let named = named.map(Ok::<_, std::convert::Infallible>);
    let reconcile = |object, context| Box::pin(reconcile(object, context));
    let done = applier(reconcile, retry, context, clusters, named, config);
    let mut done = std::pin::pin!(done);
    while let Some(result) = done.next().await {
        operator.metrics.clusters(namespace.as_deref(), known.len());
        match result {
            Ok(_) => {}
            Err(ControllerError::ObjectNotFound(gone)) => {
                operator.forget(&(gone.namespace.clone().unwrap_or_default(), gone.name.clone()));
            }
            Err(ControllerError::ReconcilerFailed(error, cluster)) => {
                warn!(namespace = cluster.namespace, cluster = cluster.name, error = %chain(&error), "reconcile failed");
            }
            Err(error) => warn!(%error, "controller"),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text += &format!(": {cause}");
        }
        source = error.source();
    }
    text
}

/// The delay after an error is the one that [`backoff`] has counted already.
fn retry(_: Arc<Guarded>, error: &ReconcileError, _: Arc<Context>) -> Action {
    Action::requeue(error.retry)
}

async fn reconcile(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let operator = &*context.operator;
    if !operator.leads() {
        return Ok(Action::await_change());
    }
    let metadata = object.meta();
    let name: ClusterName = (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
    if metadata.deletion_timestamp.is_some() {
        // Everything it owns goes with it.
        operator.forget(&name);
        return Ok(Action::await_change());
    }
    let span = tracing::info_span!("reconcile", namespace = name.0, cluster = name.1);
    let began = Instant::now();
    let memory = operator.memory(&name);
    let mut memory = memory.lock().await;
    memory.meet(metadata.uid.as_deref().unwrap_or_default());
    let result = match &object.0 {
        Ok(cluster) => Box::pin(cycle(operator, &context.scope, cluster, &name, &mut memory)).instrument(span).await,
        Err(invalid) => malformed::tell(operator, invalid, &mut memory).instrument(span).await,
    };
    if let Err(error) = &result
        && error.is_fenced()
    {
        // The next holder of the lease does it.
        return Ok(Action::await_change());
    }
    operator.metrics.reconciled(began.elapsed(), result.as_ref().err().map(ReconcileError::category));
    result.map(Action::requeue)
}

/// One turn; the time until the next one that nobody asks for.
async fn cycle(
    operator: &Operator,
    scope: &Scope,
    cluster: &WsCluster,
    name: &ClusterName,
    memory: &mut Memory,
) -> Result<Duration, ReconcileError> {
    let Operator { client, health, .. } = operator;
    let mut observed = observe(cluster, &scope.live, health).await;
    memory.know(&mut observed);
    if memory.missing.note(&observed) {
        let why = observe::refused(client, &observed).await.unwrap_or_else(|error| {
            operator.metrics.failed("list_events");
            warn!(%error, "events of a StatefulSet not read");
            None
        });
        memory.missing.answered(why);
    }
    observed.refused = memory.missing.why().map(str::to_owned);

    let previous = memory.status(cluster);
    let violations = validate(cluster, &operator.settings);
    let (target, plan) = if violations.is_empty() {
        let target = memory.target(cluster, &operator.settings, &observed);
        let plan = memory.plan(cluster, &target, &observed);
        (target, Some(plan))
    } else {
        let shards = previous.desired_shards.unwrap_or(cluster.spec.shards);
        (Target { shards, ..Target::default() }, None)
    };
    let outcome = match &plan {
        None => {
            let halt = memory.halt(cluster, &observed);
            let done = take_back(operator.actor(cluster), &observed, &halt).await;
            operator.events.tell(&cluster.object_ref(&()), done).await;
            Outcome::Invalid(violations)
        }
        Some(plan) => Box::pin(carry_out(operator, scope, cluster, &mut observed, plan, memory)).await?,
    };

    let now = Time(Timestamp::now());
    let input = Input {
        cluster,
        observed: &observed,
        target: &target,
        plan: plan.as_ref(),
        outcome: &outcome,
        previous: &previous,
        now: &now,
    };
    let next = status(&input);
    let how_much = moved(&previous, &next);
    let due = memory.counts_due();
    match how_much {
        Moved::Nothing => {}
        Moved::Counts if !due.is_zero() => {}
        Moved::Counts | Moved::Transition => {
            write::status(operator, cluster, &next, memory).await?;
            let notes = transitions(&previous, &next);
            operator.events.tell(&cluster.object_ref(&()), notes).await;
        }
    }

    if let Some(error) = memory.backoff.pending() {
        return Err(error);
    }
    let look_again = plan.and_then(|plan| plan.look_again);
    let counts = (how_much == Moved::Counts && !due.is_zero()).then_some(due);
    let missing = memory.missing.look_again();
    let round = memory.rounds.look_again(observe::now());
    let reconnecting = memory.reconnecting.as_ref().and_then(|(_, reconnecting)| reconnecting.look_again(observe::now()));
    let unasked = UNASKED.mul_f64(rand::random_range(0.8..1.2));
    let ends = observed.should_end(grace(cluster.spec.drain.deadline.0));
    let asked = [look_again, counts, missing, round, reconnecting, ends];
    let soonest = asked.into_iter().flatten().min().unwrap_or(unasked).min(unasked);
    tracing::debug!(cluster = name.1, ?soonest, "reconciled");
    // A plan may ask for a look at once; the objects it waits for need a moment to change.
    Ok(soonest.max(TOGETHER))
}

/// Builds, applies and acts, where the spec and the last failure let it.
async fn carry_out(
    operator: &Operator,
    scope: &Scope,
    cluster: &WsCluster,
    observed: &mut Observed,
    plan: &Plan,
    memory: &mut Memory,
) -> Result<Outcome, ReconcileError> {
    let Operator { client, settings, .. } = operator;
    let actor = operator.actor(cluster);
    let about = cluster.object_ref(&());
    if cluster.spec.paused {
        memory.backoff.succeeded();
        let done = act(actor, observed, plan).await;
        operator.events.tell(&about, done).await;
        return Ok(Outcome::Paused);
    }
    let generation = cluster.metadata.generation;
    if let Some(outcome) = memory.backoff.holds(generation) {
        let done = take_back(actor, observed, plan).await;
        operator.events.tell(&about, done).await;
        return Ok(outcome);
    }
    let resources = build(cluster, settings, Decided { replicas: plan.replicas, partition: plan.partition });
    let news = announce::news(cluster, observed, &scope.live, plan, &resources);
    match Box::pin(apply(client, &scope.live, cluster, resources)).await {
        Ok(applied) => {
            memory.backoff.succeeded();
            let mut notes = memory.not_told_yet(news);
            // Steps were planned for what was observed, not for what was just applied.
            notes.extend(act(actor, observed, plan).await);
            let round = memory.rebalance(cluster, observed, plan);
            notes.extend(rebalance(actor, observed, &round).await);
            operator.events.tell(&about, notes).await;
            let shards = Arc::new(applied.shards);
            memory.applied(&shards);
            observed.stateful_set = Some(shards);
            observed.deployment = Some(Arc::new(applied.gateways));
            Ok(Outcome::Applied)
        }
        Err(error) => {
            let error = ReconcileError::apply(error);
            if error.is_fenced() {
                return Err(error);
            }
            let outcome = memory.backoff.failed(generation, &error);
            let done = take_back(actor, observed, plan).await;
            operator.events.tell(&about, done).await;
            Ok(outcome)
        }
    }
}

#[cfg(test)]
mod tests;
