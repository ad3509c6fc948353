//! The main loop: observe → validate → plan → build → apply → execute → write the status, for one cluster at a time.
//!
//! A reconcile of a settled cluster reads caches and writes nothing. Only the holder of the lease reconciles. A
//! cluster that fails is retried with increasing delays, and its status stays up to date meanwhile.

mod backoff;
mod failure;
mod malformed;
mod memory;
mod planning;
mod rollout_notes;
mod write_status;

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

pub(crate) use self::failure::ReconcileError;
use self::memory::Memory;
use crate::apply::apply;
use crate::build::{Decided, build, grace};
use crate::events::Events;
use crate::execute::{Executor, cancel_drains, execute, rebalance};
use crate::health::{ClusterName, HealthProber};
use crate::lease::WriteDeadline;
use crate::metrics::{ErrorCategory, Metrics};
use crate::observe::{self, ObservedCluster, observe};
use crate::settings::Settings;
use crate::status::{ApplyOutcome, RolloutTarget, StatusChange, StatusInput, change, status, transitions};
use crate::validate::validate;
use crate::watch::{Guarded, Scope};

/// Concurrent reconciles.
const AT_ONCE: u16 = 16;
/// Events within this time are handled by one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Every cluster is reconciled at least this often.
const RESYNC: Duration = Duration::from_mins(5);

/// What all reconciles share.
pub(crate) struct Operator {
    /// Writes only while the lease is held.
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) health: HealthProber,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
    /// Until when this process may write.
    pub(crate) until: WriteDeadline,
    memories: Mutex<HashMap<ClusterName, Arc<tokio::sync::Mutex<Memory>>>>,
}

struct Context {
    operator: Arc<Operator>,
    scope: Scope,
}

impl Operator {
    pub(crate) fn new(
        client: Client,
        settings: Settings,
        health: HealthProber,
        events: Events,
        metrics: Arc<Metrics>,
        until: WriteDeadline,
    ) -> Self {
        Self { client, settings, health, events, metrics, until, memories: Mutex::default() }
    }

    /// Whether this process may write now.
    pub(crate) fn leads(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Forgets all clusters, because another process leads.
    pub(crate) fn stand_by(&self) {
        self.health.forget_all();
        self.lock().clear();
    }

    fn executor<'a>(&'a self, cluster: &'a WsCluster) -> Executor<'a> {
        let Self { client, health, metrics, until, .. } = self;
        Executor { client, health, metrics, cluster, until }
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

/// Reconciles the clusters in `queue` until it ends. Running reconciles are completed.
pub(crate) async fn run(operator: Arc<Operator>, scope: Scope, queue: impl Stream<Item = ObjectRef<Guarded>>) {
    let (clusters, namespace) = (scope.clusters.clone(), scope.namespace.clone());
    let known = clusters.clone();
    let context = Arc::new(Context { operator: Arc::clone(&operator), scope });
    let config = Config::default().concurrency(AT_ONCE).debounce(DEBOUNCE);
    let queue = queue.map(Ok::<_, std::convert::Infallible>);
    let reconcile = |object, context| Box::pin(reconcile(object, context));
    let results = applier(reconcile, retry, context, clusters, queue, config);
    let mut results = std::pin::pin!(results);
    while let Some(result) = results.next().await {
        operator.metrics.clusters(namespace.as_deref(), known.len());
        match result {
            Ok(_) => {}
            Err(ControllerError::ObjectNotFound(gone)) => {
                operator.forget(&(gone.namespace.clone().unwrap_or_default(), gone.name.clone()));
            }
            Err(ControllerError::ReconcilerFailed(error, cluster)) => {
                warn!(namespace = cluster.namespace, cluster = cluster.name, error = %chain(&error), "reconcile failed");
            }
            Err(error) => warn!(%error, "controller failed"),
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

/// Retries after the delay that [`backoff`] has computed.
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
        // Kubernetes deletes everything that it owns.
        operator.forget(&name);
        return Ok(Action::await_change());
    }
    let span = tracing::info_span!("reconcile", namespace = name.0, cluster = name.1);
    let began = Instant::now();
    let memory = operator.memory(&name);
    let mut memory = memory.lock().await;
    memory.reset_unless(metadata.uid.as_deref().unwrap_or_default());
    let result = match &object.0 {
        Ok(cluster) => Box::pin(cycle(operator, &context.scope, cluster, &name, &mut memory)).instrument(span).await,
        Err(invalid) => malformed::report(operator, invalid, &mut memory).instrument(span).await,
    };
    if let Err(error) = &result
        && error.is_fenced()
    {
        // The next holder of the lease continues.
        return Ok(Action::await_change());
    }
    operator.metrics.reconciled(began.elapsed(), result.as_ref().err().map(ReconcileError::category));
    result.map(Action::requeue)
}

/// Reconciles a cluster once. Returns the time until the next reconcile if nothing happens before.
async fn cycle(
    operator: &Operator,
    scope: &Scope,
    cluster: &WsCluster,
    name: &ClusterName,
    memory: &mut Memory,
) -> Result<Duration, ReconcileError> {
    let Operator { client, health, .. } = operator;
    let mut observed = observe(cluster, &scope.caches, health).await;
    memory.prefer_applied(&mut observed);
    if memory.missing.note(&observed) {
        let why = observe::refusal(client, &observed).await.unwrap_or_else(|error| {
            operator.metrics.failed(ErrorCategory::EventsNotRead);
            warn!(%error, "failed to list the Events of a StatefulSet");
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
        (RolloutTarget { shards, ..RolloutTarget::default() }, None)
    };
    let outcome = match &plan {
        None => {
            let plan = memory.paused_plan(cluster, &observed);
            let notes = cancel_drains(operator.executor(cluster), &observed, &plan).await;
            operator.events.publish(&cluster.object_ref(&()), notes).await;
            ApplyOutcome::Invalid(violations)
        }
        Some(plan) => Box::pin(carry_out(operator, scope, cluster, &mut observed, plan, memory)).await?,
    };

    let now = Time(Timestamp::now());
    let input = StatusInput {
        cluster,
        observed: &observed,
        target: &target,
        plan: plan.as_ref(),
        outcome: &outcome,
        previous: &previous,
        now: &now,
    };
    let next = status(&input);
    let change = change(&previous, &memory.subjects(), &next);
    let due = memory.numbers_due();
    match change {
        StatusChange::Nothing => {}
        StatusChange::Numbers if !due.is_zero() => {}
        StatusChange::Numbers | StatusChange::Transition => {
            let notes = transitions(&previous, &next.object);
            write_status::write_status(operator, cluster, next, memory).await?;
            operator.events.publish(&cluster.object_ref(&()), notes).await;
        }
    }

    if let Some(error) = memory.backoff.pending() {
        return Err(error);
    }
    let look_again = plan.and_then(|plan| plan.look_again);
    let numbers = (change == StatusChange::Numbers && !due.is_zero()).then_some(due);
    let missing = memory.missing.look_again();
    let round = memory.rounds.look_again(observe::now());
    let reconnecting = memory.reconnecting.as_ref().and_then(|(_, counter)| counter.look_again(observe::now()));
    let resync = RESYNC.mul_f64(rand::random_range(0.8..1.2));
    let termination = observed.termination_due(grace(cluster.spec.drain.deadline.0));
    let requested = [look_again, numbers, missing, round, reconnecting, termination];
    let soonest = requested.into_iter().flatten().min().unwrap_or(resync).min(resync);
    tracing::debug!(cluster = name.1, ?soonest, "reconciled");
    // A plan may ask to be computed again at once, but the objects that it waits for need a moment to change.
    Ok(soonest.max(DEBOUNCE))
}

/// Builds and applies the objects and executes the plan, unless the spec or the last failure forbids it.
async fn carry_out(
    operator: &Operator,
    scope: &Scope,
    cluster: &WsCluster,
    observed: &mut ObservedCluster,
    plan: &Plan,
    memory: &mut Memory,
) -> Result<ApplyOutcome, ReconcileError> {
    let Operator { client, settings, .. } = operator;
    let executor = operator.executor(cluster);
    let about = cluster.object_ref(&());
    if cluster.spec.paused {
        memory.backoff.succeeded();
        let notes = execute(executor, observed, plan).await;
        operator.events.publish(&about, notes).await;
        return Ok(ApplyOutcome::Paused);
    }
    let generation = cluster.metadata.generation;
    if let Some(outcome) = memory.backoff.holds(generation) {
        let notes = cancel_drains(executor, observed, plan).await;
        operator.events.publish(&about, notes).await;
        return Ok(outcome);
    }
    let resources = build(cluster, settings, Decided { replicas: plan.replicas, partition: plan.partition });
    let rollout = rollout_notes::rollout_notes(cluster, observed, &scope.caches, plan, &resources);
    match Box::pin(apply(client, &scope.caches, cluster, resources)).await {
        Ok(applied) => {
            memory.backoff.succeeded();
            let mut notes = memory.unpublished(rollout);
            // The steps were planned for the observed objects, not for the ones just applied.
            notes.extend(execute(executor, observed, plan).await);
            let round = memory.rebalance(cluster, observed, plan);
            notes.extend(rebalance(executor, observed, &round).await);
            operator.events.publish(&about, notes).await;
            let shards = Arc::new(applied.shards);
            memory.applied(&shards);
            observed.stateful_set = Some(shards);
            observed.deployment = Some(Arc::new(applied.gateways));
            Ok(ApplyOutcome::Applied)
        }
        Err(error) => {
            let error = ReconcileError::apply(error);
            if error.is_fenced() {
                return Err(error);
            }
            let outcome = memory.backoff.failed(generation, &error);
            let notes = cancel_drains(executor, observed, plan).await;
            operator.events.publish(&about, notes).await;
            Ok(outcome)
        }
    }
}

#[cfg(test)]
mod tests;
