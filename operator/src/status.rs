//! The status of a `WsCluster`: a pure function of what was observed, planned and applied.
//!
//! Conditions carry the generation that they refer to. `Ready` of a new spec is `False` until that spec is completely
//! in effect: the wanted number of shards serves at the wanted revision, no other shard exists, and the gateways are
//! rolled out.

mod capacity;
mod change;
mod conditions;
mod degraded;
mod gateways;
mod progress;
mod ready;
mod subject;
mod transitions;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use wscluster_api::WsCluster;
use wscluster_api::status::{Member, WsClusterStatus};
use wscluster_api::validate::Violation;
use wscluster_plan::{Plan, State};

pub(crate) use self::change::{StatusChange, Subjects, change};
pub(crate) use self::conditions::ConditionType;
use self::conditions::{Verdict, find, holds, stamped};
use self::gateways::Gateways;
pub(crate) use self::subject::Subject;
pub(crate) use self::transitions::transitions;
use crate::build::labels;
use crate::metrics::ErrorCategory;
use crate::observe::{ObservedCluster, ShardPod};

/// What became of the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ApplyOutcome {
    /// Every object matches the spec, as far as the plan has progressed.
    Applied,
    /// Nothing was changed, because the cluster is paused.
    Paused,
    /// The spec breaks rules; nothing was changed.
    Invalid(Vec<Violation>),
    /// A required object belongs to somebody else.
    NameTaken(String),
    /// An object could not be applied.
    Failed(ErrorCategory, String),
}

/// What the spec asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RolloutTarget {
    /// Number of shards.
    pub(crate) shards: u32,
    /// Revision of the shards.
    pub(crate) revision: String,
    pub(crate) gateway_revision: String,
}

/// Everything that a status depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusInput<'a> {
    pub(crate) cluster: &'a WsCluster,
    pub(crate) observed: &'a ObservedCluster,
    pub(crate) target: &'a RolloutTarget,
    /// `None` if the spec is invalid.
    pub(crate) plan: Option<&'a Plan>,
    pub(crate) outcome: &'a ApplyOutcome,
    /// The previous status.
    pub(crate) previous: &'a WsClusterStatus,
    pub(crate) now: &'a Time,
}

/// A status, with what its messages are about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Status {
    pub(crate) object: WsClusterStatus,
    /// By condition, in the order of `object.conditions`.
    pub(crate) subjects: Vec<Vec<Subject>>,
}

/// Computes the status.
pub(crate) fn status(input: &StatusInput<'_>) -> Status {
    let StatusInput { cluster, observed, .. } = *input;
    let view = View::new(input);
    let verdicts = [
        (ConditionType::Ready, ready::ready(&view)),
        (ConditionType::Progressing, progress::progressing(&view)),
        (ConditionType::Draining, progress::draining(&view)),
        (ConditionType::Degraded, degraded::degraded(&view)),
        (ConditionType::CapacityExhausted, capacity::exhausted(&view)),
        (ConditionType::Paused, paused(&view)),
    ];
    let generation = cluster.metadata.generation;
    let (conditions, subjects) = stamped(verdicts, generation, &input.previous.conditions, input.now);
    let members: Vec<Member> = observed.shards.iter().map(|pod| member(pod, cluster)).collect();
    let connections = members.iter().map(|member| member.connections).sum();
    let capacity = members.iter().map(|member| member.capacity).sum();
    let object = WsClusterStatus {
        observed_generation: generation,
        selector: Some(labels::selector_text(cluster)),
        desired_shards: Some(input.target.shards),
        shards: Some(observed.shards.len() as u32),
        ready_shards: Some(view.serving() as u32),
        connections: Some(connections),
        capacity: Some(capacity),
        utilization: Some(format!("{}%", capacity::percent(connections, capacity))),
        phase: Some(phase(&conditions, input.outcome).to_owned()),
        conditions,
        members,
    };
    Status { object, subjects }
}

/// What several conditions need.
struct View<'a> {
    input: &'a StatusInput<'a>,
    gateways: Gateways,
}

impl<'a> View<'a> {
    fn new(input: &'a StatusInput<'a>) -> Self {
        Self { input, gateways: Gateways::of(input.observed.deployment.as_deref()) }
    }

    fn shards(&self) -> &'a [ShardPod] {
        &self.input.observed.shards
    }

    /// Number of shards that serve, at any revision.
    fn serving(&self) -> usize {
        self.shards().iter().filter(|pod| pod.serves()).count()
    }

    /// Number of shards that serve at the wanted revision.
    fn current(&self) -> usize {
        let revision = &self.input.target.revision;
        self.shards().iter().filter(|pod| pod.serves() && pod.revision == *revision).count()
    }

    /// Whether exactly the wanted shards exist and serve.
    fn shards_settled(&self) -> bool {
        let wanted = self.input.target.shards;
        let exact = self.shards().len() == wanted as usize && self.input.observed.replicas() == Some(wanted);
        exact && self.current() == wanted as usize
    }

    /// Whether the gateways are rolled out at the wanted revision.
    fn gateways_settled(&self) -> bool {
        self.gateways.settled && self.gateways.revision == self.input.target.gateway_revision
    }

    fn is_applied(&self) -> bool {
        matches!(self.input.outcome, ApplyOutcome::Applied | ApplyOutcome::Paused)
    }
}

fn paused(view: &View<'_>) -> Verdict {
    if view.input.cluster.spec.paused {
        Verdict::yes("SpecPaused", "spec.paused is true: nothing is changed until it is false")
    } else {
        Verdict::no("NotPaused", "spec.paused is false")
    }
}

fn member(pod: &ShardPod, cluster: &WsCluster) -> Member {
    Member {
        name: pod.name.clone(),
        ordinal: pod.ordinal,
        incarnation: pod.health.answer().map(|answer| answer.incarnation.clone()).unwrap_or_default(),
        revision: pod.revision.clone(),
        state: state_name(pod.state()).to_owned(),
        connections: pod.connections(cluster.spec.drain.deadline.0),
        capacity: pod.capacity(cluster.spec.capacity),
    }
}

/// The state of a shard as `members` shows it.
const fn state_name(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Ready => "ready",
        State::Full => "full",
        State::Draining => "draining",
        State::Silent => "silent",
        State::Failing => "failing",
        State::Leaving => "leaving",
    }
}

/// One word for `kubectl get`: what needs attention most.
fn phase<'a>(conditions: &'a [Condition], outcome: &ApplyOutcome) -> &'a str {
    match outcome {
        ApplyOutcome::Invalid(_) => return "Invalid",
        ApplyOutcome::NameTaken(_) => return "Blocked",
        ApplyOutcome::Failed(..) | ApplyOutcome::Applied | ApplyOutcome::Paused => {}
    }
    if holds(conditions, ConditionType::Paused) {
        return "Paused";
    }
    if holds(conditions, ConditionType::Degraded) {
        return "Degraded";
    }
    if let Some(progressing) = find(conditions, ConditionType::Progressing).filter(|found| found.status == "True") {
        return &progressing.reason;
    }
    if holds(conditions, ConditionType::CapacityExhausted) {
        return "Full";
    }
    if holds(conditions, ConditionType::Ready) { "Ready" } else { "Starting" }
}

#[cfg(test)]
mod tests;
