//! The shards of a run as a plan sees them. Pure: from the fleet and the board.

use std::time::{Duration, Instant};

use wscluster_admin::health::{self, ShardHealth};
use wscluster_plan::{Observed, Shard, State, Timestamp};

use super::fleet::Part;
use super::state::{Board, Row};

/// A shard that was ready and has not answered for this long is silent; until then what it said last holds.
const SILENT: Duration = Duration::from_secs(3);

/// What is seen of `shards`, with times counted from `epoch`. None while an answer is missing that is younger than what its
/// shard was last told: one from before would be taken for the effect of that.
pub fn observed<'a>(
    shards: impl Iterator<Item = &'a Part>,
    board: &Board,
    replicas: u32,
    epoch: Instant,
    now: Instant,
) -> Option<Observed> {
    let mut seen = Vec::new();
    let gateways = board.gateways().iter().filter(|row| row.health.is_some()).count();
    for part in shards {
        let row = board.shards().iter().find(|row| row.ordinal == part.ordinal)?;
        let (state, since) = state(part, row, now);
        let asked = row.said.as_ref().map(|(asked, _)| *asked);
        let is_void = part.acted.is_some_and(|acted| asked.is_some_and(|asked| asked < acted));
        if is_void && matches!(state, State::Ready | State::Full | State::Draining) {
            return None;
        }
        let said = row.said.as_ref().map(|(_, health)| health);
        seen.push(Shard {
            ordinal: part.ordinal,
            revision: part.revision.clone(),
            state,
            connections: said.map_or(0, |health| health.connections),
            capacity: said.map_or(0, |health| health.capacity),
            known_to_gateways: said.is_none_or(|health| health.gateways as usize >= gateways),
            pod_ready: false,
            since: since.map(|since| Timestamp(since.saturating_duration_since(epoch))),
        });
    }
    Some(Observed { replicas, reconnecting: 0, shards: seen })
}

fn state(part: &Part, row: &Row<ShardHealth>, now: Instant) -> (State, Option<Instant>) {
    if let Some(leaving) = &part.leaving {
        return (State::Leaving, Some(leaving.since));
    }
    if row.is_failing {
        return (State::Failing, Some(row.since));
    }
    let starting = (State::Starting, Some(row.since));
    let (Some(_), Some((asked, said))) = (row.pid, &row.said) else { return starting };
    if row.health.is_none() && now.saturating_duration_since(*asked) > SILENT {
        return if row.was_ready { (State::Silent, Some(*asked)) } else { starting };
    }
    match said.state {
        health::State::Starting => starting,
        health::State::Ready => (State::Ready, Some(row.since)),
        health::State::Full => (State::Full, Some(row.since)),
        health::State::Draining => (State::Draining, part.drain),
    }
}
