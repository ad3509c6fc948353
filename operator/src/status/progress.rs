//! The `Progressing` and `Draining` conditions.

use wscluster_plan::{Action, Blocked, State};

use super::View;
use super::conditions::Verdict;
use super::subject::Subject;
use crate::approval;

/// Maximum number of steps or shards that a message lists; the others are counted.
const LISTED: usize = 4;

pub(super) fn progressing(view: &View<'_>) -> Verdict {
    let target = view.input.target;
    let name = view.input.cluster.metadata.name.as_deref().unwrap_or_default();
    if !view.is_applied() {
        return Verdict::no("NotApplied", "the spec was not applied: see Degraded");
    }
    if view.input.cluster.spec.paused {
        return Verdict::no("Paused", "spec.paused is true");
    }
    let (existing, wanted) = (view.shards().len(), target.shards as usize);
    let revision = [Subject::Revision(target.revision.clone())];
    let serving = format!("{} of {wanted} shards serve at revision {}", view.current(), target.revision);
    let (steps, subjects) = steps(view, name);
    let old = view.shards().iter().filter(|pod| pod.revision != target.revision).count();
    if existing > wanted || view.input.observed.replicas().is_some_and(|replicas| replicas > target.shards) {
        let has_extra = old > 0
            && existing == wanted + 1
            && view.shards().last().is_some_and(|pod| pod.revision == target.revision);
        let reason = if has_extra { "RollingOut" } else { "ScalingDown" };
        return Verdict::yes(reason, format!("{existing} shards exist, {wanted} are wanted{steps}")).about(subjects);
    }
    if old > 0 {
        let current = existing - old;
        let message = format!("{current} of {wanted} shards are at revision {}{steps}", target.revision);
        return Verdict::yes("RollingOut", message).about(revision).about(subjects);
    }
    if !view.shards_settled() {
        // Shards that serve have existed before; without any, the cluster is new.
        let reason = if view.serving() > 0 && existing < wanted { "ScalingUp" } else { "Starting" };
        return Verdict::yes(reason, format!("{serving}{steps}")).about(revision).about(subjects);
    }
    if !view.gateways_settled() {
        let gateways = &view.gateways;
        let counts =
            format!("{} of {} gateways are ready, {} of them new", gateways.ready, gateways.wanted, gateways.updated);
        if gateways.updated == gateways.wanted && gateways.ready < gateways.wanted {
            return Verdict::yes("Starting", counts);
        }
        let pace = format!("an old one stops when a new one has been ready for {} s", gateways.pause);
        return Verdict::yes("RollingOut", format!("{counts}; {pace}"));
    }
    Verdict::no("Settled", serving).about(revision)
}

/// The steps of single shards and what blocks the next one, as text and as subjects.
fn steps(view: &View<'_>, name: &str) -> (String, Vec<Subject>) {
    let (mut text, mut subjects) = (String::new(), Vec::new());
    let Some(plan) = view.input.plan else { return (text, subjects) };
    let steps: Vec<_> = plan.steps.iter().filter(|step| step.action != Action::Wait).collect();
    for step in steps.iter().take(LISTED) {
        text += &format!("; {name}-{} {}", step.ordinal, step.reason);
        subjects.push(Subject::step(&step.reason));
    }
    if steps.len() > LISTED {
        text += &format!("; {} more", steps.len() - LISTED);
        subjects.push(Subject::More);
    }
    if let Some(blocked) = &plan.blocked {
        text += &format!("; the next step waits: {blocked}");
        subjects.push(Subject::blocked(blocked));
    }
    if let Some(Blocked::Approval { ordinal }) = plan.blocked {
        text += &format!(": {}", approval::command(name, &view.input.target.revision, ordinal));
    }
    (text, subjects)
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
    let names: Vec<_> = draining.iter().take(LISTED).map(|pod| &*pod.name).collect();
    let more = if draining.len() > LISTED { format!(" and {} more", draining.len() - LISTED) } else { String::new() };
    let rate = drain.evict_rate;
    let message = format!("{left} connections are left on {}{more}, closed at {rate}/s each", names.join(", "));
    let listed = names.iter().map(|_| Subject::Draining);
    let subjects: Vec<_> = listed.chain((draining.len() > LISTED).then_some(Subject::More)).collect();
    Verdict::yes("ConnectionsMoving", message).about(subjects)
}
