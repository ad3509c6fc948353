//! The shards of a run as input of the plan, from the fleet and the polled state. Pure.

use std::time::{Duration, Instant};

use wscluster_admin::health::{self, ShardHealth};
use wscluster_plan::{Observed, Shard, State, Timestamp};

use super::fleet::Child;
use super::state::{ChildState, RunState};

/// A shard without an answer for this long is silent if it was ready before. Until then its last answer holds.
const SILENT: Duration = Duration::from_secs(3);

/// The input of the plan, with times counted from `epoch`. `None` while the last answer of a shard is older than the
/// last order to it: the plan would take the old answer for the effect of the order.
pub(crate) fn observed<'a>(
    children: impl Iterator<Item = &'a Child>,
    state: &RunState,
    replicas: u32,
    epoch: Instant,
    now: Instant,
) -> Option<Observed> {
    let mut shards = Vec::new();
    let gateways = state.gateways().iter().filter(|gateway| gateway.health.is_some()).count();
    for child in children {
        let known = state.shards().iter().find(|known| known.ordinal == child.ordinal)?;
        let (state, since) = plan_state(child, known, now);
        let asked = known.answered.as_ref().map(|(asked, _)| *asked);
        let is_outdated = child.ordered.is_some_and(|acted| asked.is_some_and(|asked| asked < acted));
        if is_outdated && matches!(state, State::Ready | State::Full | State::Draining) {
            return None;
        }
        let answer = known.answered.as_ref().map(|(_, health)| health);
        shards.push(Shard {
            ordinal: child.ordinal,
            revision: child.revision.clone(),
            state,
            connections: answer.map_or(0, |health| health.connections),
            capacity: answer.map_or(0, |health| health.capacity),
            known_to_gateways: answer.is_none_or(|health| health.gateways as usize >= gateways),
            pod_ready: false,
            since: since.map(|since| Timestamp(since.saturating_duration_since(epoch))),
        });
    }
    Some(Observed { replicas, reconnecting: 0, shards })
}

fn plan_state(child: &Child, known: &ChildState<ShardHealth>, now: Instant) -> (State, Option<Instant>) {
    if let Some(leaving) = &child.leaving {
        return (State::Leaving, Some(leaving.since));
    }
    if known.is_failing {
        return (State::Failing, Some(known.since));
    }
    let starting = (State::Starting, Some(known.since));
    let (Some(_), Some((asked, answer))) = (known.pid, &known.answered) else { return starting };
    if known.health.is_none() && now.saturating_duration_since(*asked) > SILENT {
        return if known.was_ready { (State::Silent, Some(*asked)) } else { starting };
    }
    match answer.state {
        health::State::Starting => starting,
        health::State::Ready => (State::Ready, Some(known.since)),
        health::State::Full => (State::Full, Some(known.since)),
        health::State::Draining => (State::Draining, child.drain),
    }
}
