//! What a `WsCluster` says of itself, as a pure function of what was observed, planned and done.
//!
//! Conditions carry the generation they speak of, so `Ready` of a new spec is `False` until that spec has come true as a whole: every
//! shard of the wanted number and revision serves, none is left over, and the gateways are rolled out.

mod capacity;
mod conditions;
mod degraded;
mod gateways;
mod moved;
mod progress;
mod ready;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use wscluster_api::WsCluster;
use wscluster_api::status::{Member, WsClusterStatus};
use wscluster_api::validate::Violation;
use wscluster_plan::{Plan, State};

pub use self::conditions::find;
use self::conditions::{Verdict, stamped};
use self::gateways::Gateways;
pub use self::moved::{Moved, moved};
use crate::build::labels;
use crate::observe::{Observed, ShardPod};

/// What became of the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every object is as the spec asks for, as far as the plan has come.
    Applied,
    /// Nothing was touched, as the spec says.
    Paused,
    /// The spec breaks rules; nothing was touched.
    Invalid(Vec<Violation>),
    /// An object that is needed belongs to somebody else.
    NameTaken(String),
    /// An object could not be brought to what it has to be.
    Failed(&'static str, String),
}

/// What the spec asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Shards.
    pub shards: u32,
    /// Revision of each.
    pub revision: String,
    /// Revision of the gateways.
    pub gateway_revision: String,
}

/// All that a status is made of.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The cluster.
    pub cluster: &'a WsCluster,
    /// What there is.
    pub observed: &'a Observed,
    /// What the spec asks for.
    pub target: &'a Target,
    /// What happens next; none where nothing may.
    pub plan: Option<&'a Plan>,
    /// What became of the spec.
    pub outcome: &'a Outcome,
    /// The status until now.
    pub previous: &'a WsClusterStatus,
    /// Now.
    pub now: &'a Time,
}

/// The status.
pub fn status(input: &Input<'_>) -> WsClusterStatus {
    let Input { cluster, observed, .. } = *input;
    let view = View::new(input);
    let verdicts = [
        ("Ready", ready::ready(&view)),
        ("Progressing", progress::progressing(&view)),
        ("Draining", progress::draining(&view)),
        ("Degraded", degraded::degraded(&view)),
        ("CapacityExhausted", capacity::exhausted(&view)),
        ("Paused", paused(&view)),
    ];
    let generation = cluster.metadata.generation;
    let conditions = stamped(verdicts, generation, &input.previous.conditions, input.now);
    let members: Vec<Member> = observed.shards.iter().map(|pod| member(pod, cluster)).collect();
    let connections = members.iter().map(|member| member.connections).sum();
    let capacity = members.iter().map(|member| member.capacity).sum();
    WsClusterStatus {
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
    }
}

/// What the conditions share.
struct View<'a> {
    input: &'a Input<'a>,
    gateways: Gateways,
}

impl<'a> View<'a> {
    fn new(input: &'a Input<'a>) -> Self {
        Self { input, gateways: Gateways::of(input.observed.deployment.as_deref()) }
    }

    fn shards(&self) -> &'a [ShardPod] {
        &self.input.observed.shards
    }

    /// Shards that serve, of whatever revision.
    fn serving(&self) -> usize {
        self.shards().iter().filter(|pod| pod.serves()).count()
    }

    /// Shards that serve on the wanted revision.
    fn current(&self) -> usize {
        let revision = &self.input.target.revision;
        self.shards().iter().filter(|pod| pod.serves() && pod.revision == *revision).count()
    }

    /// Whether the shards are all that the spec asks for, and nothing else.
    fn shards_settled(&self) -> bool {
        let wanted = self.input.target.shards;
        let exact = self.shards().len() == wanted as usize && self.input.observed.replicas() == Some(wanted);
        exact && self.current() == wanted as usize
    }

    /// Whether the gateways are.
    fn gateways_settled(&self) -> bool {
        self.gateways.settled && self.gateways.revision == self.input.target.gateway_revision
    }

    fn is_applied(&self) -> bool {
        matches!(self.input.outcome, Outcome::Applied | Outcome::Paused)
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
    let state = match pod.state() {
        State::Starting => "starting",
        State::Ready => "ready",
        State::Full => "full",
        State::Draining => "draining",
        State::Silent => "silent",
        State::Failing => "failing",
        State::Leaving => "leaving",
    };
    Member {
        name: pod.name.clone(),
        ordinal: pod.ordinal,
        incarnation: pod.health.answer().map(|answer| answer.incarnation.clone()).unwrap_or_default(),
        revision: pod.revision.clone(),
        state: state.to_owned(),
        connections: pod.connections(cluster.spec.drain.deadline.0),
        capacity: pod.capacity(cluster.spec.capacity),
    }
}

/// One word for `kubectl get`: what needs attention most.
fn phase<'a>(conditions: &'a [Condition], outcome: &Outcome) -> &'a str {
    let is = |name| find(conditions, name).filter(|condition| condition.status == "True");
    match outcome {
        Outcome::Invalid(_) => return "Invalid",
        Outcome::NameTaken(_) => return "Blocked",
        Outcome::Failed(..) | Outcome::Applied | Outcome::Paused => {}
    }
    if is("Paused").is_some() {
        return "Paused";
    }
    if is("Degraded").is_some() {
        return "Degraded";
    }
    if let Some(progressing) = is("Progressing") {
        return &progressing.reason;
    }
    if is("CapacityExhausted").is_some() {
        return "Full";
    }
    if is("Ready").is_some() { "Ready" } else { "Starting" }
}

#[cfg(test)]
mod tests;
