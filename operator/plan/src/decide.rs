//! Computes the plan. `docs/plan.md` has the rules and the table of states and actions.

use crate::classify::Class;
use crate::schedule::Schedule;
use crate::steps::{StepWriter, expected, termination_due, unchanged};
use crate::view::View;
use crate::{Action, Blocked, Desired, Observed, Plan, Reason, Shard, State, Step, Timestamp, UndrainCause};

/// Decides what to do now with each shard. Deterministic, and defined for every input.
///
/// 1. Missing shards are created at once. An ordinal is reused only after its previous pod has terminated.
/// 2. Surplus shards and shards of another revision go from the highest ordinal down. A serving shard drains first. A
///    drain starts only if at most `max_in_motion` shards are then in motion and the other shards have a free slot
///    for every client that moves. A replacement also waits until no shard of the wanted revision is unready.
/// 3. If slots are missing for a replacement and `surge` permits it, one extra shard is started. It stays until all
///    shards are replaced.
/// 4. A shard without connections goes at once: it has drained, or never became ready.
/// 5. A drain ends at its deadline, even with connections left. A silent shard goes at its deadline and not before. A
///    silent shard whose pod is Ready does not go before it has drained.
/// 6. A drain is cancelled if its shard is wanted again, if a shard above it must go first and has not started, if no
///    other shard has a free slot, and by a pause. A pause starts nothing.
pub fn plan(desired: &Desired, observed: &Observed, now: Timestamp) -> Plan {
    let view = View::new(desired, observed, now);
    if desired.paused {
        return paused(&view);
    }
    let classes = view.classes();
    let mut replicas = replicas(&view, &classes);
    let partition = partition(&view, &classes, replicas);
    let schedule = Schedule::new(&view, &classes, replicas, partition).walk();
    if schedule.surges {
        replicas += 1;
    }
    let steps = StepWriter { view: &view, classes: &classes, schedule: &schedule, replicas, partition }.steps();
    let terminations = observed.shards.iter().filter_map(|shard| termination_due(&view, shard));
    let look_again = steps.iter().filter_map(|step| expected(&view, step)).chain(terminations).min();
    Plan { replicas, partition, steps, blocked: schedule.blocked, look_again }
}

/// Scales up as far as no terminating pod is in the way, and down over all shards that may go.
fn replicas(view: &View<'_>, classes: &[Class]) -> u32 {
    let now = view.replicas;
    if now <= view.keep {
        let in_the_way = |shard: &&Shard| shard.ordinal >= now && shard.state == State::Leaving;
        let first = view.observed.shards.iter().find(in_the_way);
        return first.map_or(view.keep, |predecessor| view.keep.min(predecessor.ordinal));
    }
    let may_go = |ordinal: u32| {
        let at = view.observed.shards.binary_search_by_key(&ordinal, |shard| shard.ordinal);
        at.map_or(true, |at| matches!(classes[at], Class::Released(_) | Class::Leaving))
    };
    (view.keep..now).rev().find(|ordinal| !may_go(*ordinal)).map_or(view.keep, |stays| stays + 1)
}

/// One above the highest shard of another revision that may not be replaced yet.
fn partition(view: &View<'_>, classes: &[Class], replicas: u32) -> u32 {
    let stays = |(shard, class): &(&Shard, &Class)| {
        let goes = matches!(class, Class::Released(_) | Class::Leaving | Class::Removed);
        shard.ordinal < replicas && view.is_stale(shard) && !goes
    };
    view.observed.shards.iter().zip(classes).rev().find(stays).map_or(0, |(shard, _)| shard.ordinal + 1)
}

/// The plan while paused: nothing is created, removed or replaced, and drains are cancelled.
fn paused(view: &View<'_>) -> Plan {
    let step = |shard: &Shard| {
        let exists = shard.ordinal < view.replicas && shard.state != State::Leaving;
        let (action, reason) = if !exists {
            (Action::Wait, Reason::Leaves { connections: shard.connections })
        } else if shard.state == State::Draining {
            (Action::Undrain, Reason::Undrains { connections: shard.connections, cause: UndrainCause::Paused })
        } else if view.cause(shard).is_some() {
            (Action::Wait, Reason::Waits(Blocked::Paused))
        } else {
            (Action::Wait, unchanged(view, shard))
        };
        Step { ordinal: shard.ordinal, action, reason }
    };
    let stale = view.observed.shards.iter().rev().find(|shard| view.is_stale(shard));
    let waits = view.replicas != view.keep || stale.is_some();
    Plan {
        replicas: view.replicas,
        partition: stale.map_or(0, |shard| shard.ordinal + 1),
        steps: view.observed.shards.iter().map(step).collect(),
        blocked: waits.then_some(Blocked::Paused),
        look_again: None,
    }
}

#[cfg(test)]
mod tests;
