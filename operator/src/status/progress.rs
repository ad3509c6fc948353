//! `Progressing` and `Draining`: what is on its way, and for how many.

use wscluster_plan::{Action, Blocked, State};

use super::View;
use super::conditions::Verdict;
use crate::controller::APPROVE;

/// Steps that a message names; the others are counted.
const NAMED: usize = 4;

pub(super) fn progressing(view: &View<'_>) -> Verdict {
    let target = view.input.target;
    let name = view.input.cluster.metadata.name.as_deref().unwrap_or_default();
    if !view.is_applied() {
        return Verdict::no("NotApplied", "the spec was not applied: see Degraded");
    }
    if view.input.cluster.spec.paused {
        return Verdict::no("Paused", "spec.paused is true");
    }
    let (there, wanted) = (view.shards().len(), target.shards as usize);
    let serving = format!("{} of {wanted} shards serve at revision {}", view.current(), target.revision);
    let steps = steps(view, name);
    let old = view.shards().iter().filter(|pod| pod.revision != target.revision).count();
    if there > wanted || view.input.observed.replicas().is_some_and(|replicas| replicas > target.shards) {
        let surge =
            old > 0 && there == wanted + 1 && view.shards().last().is_some_and(|pod| pod.revision == target.revision);
        let reason = if surge { "RollingOut" } else { "ScalingDown" };
        return Verdict::yes(reason, format!("{there} shards are there, {wanted} are wanted{steps}"));
    }
    if old > 0 {
        let message = format!("{} of {wanted} shards are of revision {}{steps}", there - old, target.revision);
        return Verdict::yes("RollingOut", message);
    }
    if !view.shards_settled() {
        // Those that ever served are known by their answers; where there is none, this is a beginning.
        let reason = if view.serving() > 0 && there < wanted { "ScalingUp" } else { "Starting" };
        return Verdict::yes(reason, format!("{serving}{steps}"));
    }
    if !view.gateways_settled() {
        let gateways = &view.gateways;
        let counts =
            format!("{} of {} gateways are ready, {} of them new", gateways.ready, gateways.wanted, gateways.updated);
        if gateways.updated == gateways.wanted && gateways.ready < gateways.wanted {
            return Verdict::yes("Starting", counts);
        }
        let pace = format!("an old one goes when a new one has been ready for {} s", gateways.pause);
        return Verdict::yes("RollingOut", format!("{counts}; {pace}"));
    }
    Verdict::no("Settled", serving)
}

/// What happens to single shards, and what keeps it from happening.
fn steps(view: &View<'_>, name: &str) -> String {
    let Some(plan) = view.input.plan else { return String::new() };
    let told: Vec<_> = plan.steps.iter().filter(|step| step.action != Action::Wait).collect();
    let mut text = String::new();
    for step in told.iter().take(NAMED) {
        text += &format!("; {name}-{} {}", step.ordinal, step.reason);
    }
    if told.len() > NAMED {
        text += &format!("; {} more", told.len() - NAMED);
    }
    if let Some(blocked) = &plan.blocked {
        text += &format!("; the next step waits: {blocked}");
    }
    if let Some(Blocked::Approval { ordinal }) = &plan.blocked {
        let revision = &view.input.target.revision;
        text += &format!(": kubectl annotate wsc/{name} --overwrite {APPROVE}={revision}:{ordinal}");
    }
    text
}

pub(super) fn draining(view: &View<'_>) -> Verdict {
    let drain = &view.input.cluster.spec.drain;
    let left = |pod: &super::ShardPod| pod.connections(drain.deadline.0);
    let drains =
        |pod: &&super::ShardPod| pod.state() == State::Draining || (pod.state() == State::Leaving && left(pod) > 0);
    let draining: Vec<_> = view.shards().iter().filter(drains).collect();
    if draining.is_empty() {
        return Verdict::no("NoDrain", "no shard drains");
    }
    let left: u32 = draining.iter().map(|pod| left(pod)).sum();
    let names: Vec<_> = draining.iter().take(NAMED).map(|pod| &*pod.name).collect();
    let more = if draining.len() > NAMED { format!(" and {} more", draining.len() - NAMED) } else { String::new() };
    let rate = drain.evict_rate;
    let message = format!("{left} connections are left on {}{more}, closed at {rate}/s each", names.join(", "));
    Verdict::yes("ConnectionsMoving", message)
}
