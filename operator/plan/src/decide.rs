//! The plan itself. `docs/plan.md` has its rules and the table of states and actions.

use crate::standing::{Standing, View};
use crate::starts::Starts;
use crate::steps::{Writer, as_it_is, ends, expected};
use crate::{Action, Back, Blocked, Desired, Observed, Plan, Reason, Shard, State, Step, Timestamp};

/// What to do now with each shard. Pure and total: the same answer to the same question, and an answer to every question.
///
/// 1. More shards are created at once; an ordinal is not used again before its predecessor has left.
/// 2. Shards that are too many, and shards of another revision, go from the highest ordinal down. One that serves is drained
///    first, and that starts only when no more than `max_in_motion` are in motion and the others have a free slot for
///    everybody who moves; for a replacement, only when no shard of the wanted revision is unready.
/// 3. Where slots are missing for a replacement, one more shard is started if `surge` allows it. It stays until all are replaced.
/// 4. One that holds nobody goes at once: it was drained, or never turned ready.
/// 5. At its deadline a drain is over, whoever is left. A silent shard goes at its deadline and not before; one that its kubelet finds
///    ready does not go before it could be told to drain.
/// 6. A drain is taken back when its shard is wanted after all, when a shard above it has to go first and has not begun, when
///    no other shard has a free slot, and by a pause. A pause starts nothing.
pub fn plan(desired: &Desired, observed: &Observed, now: Timestamp) -> Plan {
    let view = View::new(desired, observed, now);
    if desired.paused {
        return paused(&view);
    }
    let standings = view.standings();
    let mut replicas = replicas(&view, &standings);
    let partition = partition(&view, &standings, replicas);
    let starts = Starts::new(&view, &standings, replicas, partition).walk();
    if starts.surges {
        replicas += 1;
    }
    let steps = Writer { view: &view, standings: &standings, starts: &starts, replicas, partition }.steps();
    let ends = observed.shards.iter().filter_map(|shard| ends(&view, shard));
    let look_again = steps.iter().filter_map(|step| expected(&view, step)).chain(ends).min();
    Plan { replicas, partition, steps, blocked: starts.blocked, look_again }
}

/// Upwards as far as no earlier shard is in the way, downwards over all that may go.
fn replicas(view: &View<'_>, standings: &[Standing]) -> u32 {
    let now = view.replicas;
    if now <= view.keep {
        let in_the_way = |shard: &&Shard| shard.ordinal >= now && shard.state == State::Leaving;
        let first = view.observed.shards.iter().find(in_the_way);
        return first.map_or(view.keep, |predecessor| view.keep.min(predecessor.ordinal));
    }
    let may_go = |ordinal: u32| {
        let at = view.observed.shards.binary_search_by_key(&ordinal, |shard| shard.ordinal);
        at.map_or(true, |at| matches!(standings[at], Standing::Released(_) | Standing::Leaving))
    };
    (view.keep..now).rev().find(|ordinal| !may_go(*ordinal)).map_or(view.keep, |stays| stays + 1)
}

/// One above the highest shard of another revision that may not be replaced yet.
fn partition(view: &View<'_>, standings: &[Standing], replicas: u32) -> u32 {
    let stays = |(shard, standing): &(&Shard, &Standing)| {
        let goes = matches!(standing, Standing::Released(_) | Standing::Leaving | Standing::Removed);
        shard.ordinal < replicas && view.is_stale(shard) && !goes
    };
    view.observed.shards.iter().zip(standings).rev().find(stays).map_or(0, |(shard, _)| shard.ordinal + 1)
}

/// Whether a shard that may go does so now, and how.
pub(crate) fn exit(view: &View<'_>, shard: &Shard, replicas: u32, partition: u32) -> Option<Action> {
    if shard.ordinal >= replicas {
        return Some(Action::Remove);
    }
    // A new pod below the partition comes back on the revision that all shards had last, which is the one that the lowest
    // still has: better than one that fails.
    let lowest = view.observed.shards.first();
    let heals = || shard.state == State::Failing && lowest.is_some_and(|lowest| lowest.revision != shard.revision);
    (shard.ordinal < view.keep && (shard.ordinal >= partition || heals())).then_some(Action::Restart)
}

/// Nothing is created, removed or replaced, and who drains takes upgrades again.
fn paused(view: &View<'_>) -> Plan {
    let step = |shard: &Shard| {
        let is_there = shard.ordinal < view.replicas && shard.state != State::Leaving;
        let (action, reason) = if !is_there {
            (Action::Wait, Reason::Leaves { connections: shard.connections })
        } else if shard.state == State::Draining {
            (Action::Undrain, Reason::Back { connections: shard.connections, why: Back::Paused })
        } else if view.cause(shard).is_some() {
            (Action::Wait, Reason::Waits(Blocked::Paused))
        } else {
            (Action::Wait, as_it_is(view, shard))
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
