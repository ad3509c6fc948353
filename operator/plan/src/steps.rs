//! Writes down one step for every shard, with its reason.

use std::time::Duration;

use crate::decide::exit;
use crate::standing::{Standing, View};
use crate::starts::Starts;
use crate::{Action, Blocked, Desired, Reason, Release, Shard, State, Step};

/// Writes down one step a shard.
pub(crate) struct Writer<'a> {
    pub(crate) view: &'a View<'a>,
    pub(crate) standings: &'a [Standing],
    pub(crate) starts: &'a Starts<'a>,
    pub(crate) replicas: u32,
    pub(crate) partition: u32,
}

impl Writer<'_> {
    pub(crate) fn steps(&self) -> Vec<Step> {
        let observed = self.view.observed;
        let end = observed.shards.last().map_or(0, |shard| shard.ordinal + 1).max(self.replicas).max(self.view.keep);
        (0..end).filter_map(|ordinal| self.step(ordinal)).collect()
    }

    fn step(&self, ordinal: u32) -> Option<Step> {
        let found = self.view.observed.shards.binary_search_by_key(&ordinal, |shard| shard.ordinal);
        let (action, reason) = match found {
            Err(_) if ordinal < self.replicas => (Action::Wait, Reason::Created),
            Err(_) if ordinal < self.view.keep => (Action::Wait, Reason::Predecessor),
            Err(_) => return None,
            Ok(at) => {
                let shard = &self.view.observed.shards[at];
                match self.standings[at] {
                    Standing::Wanted | Standing::Silent => (Action::Wait, as_it_is(self.view, shard)),
                    Standing::Removed if ordinal < self.view.keep => (Action::Wait, Reason::Predecessor),
                    Standing::Removed | Standing::Leaving => {
                        (Action::Wait, Reason::Leaves { connections: shard.connections })
                    }
                    Standing::Moving => (Action::Wait, self.moves(shard)),
                    Standing::Back(why) => (Action::Undrain, Reason::Back { connections: shard.connections, why }),
                    Standing::Released(release) => self.goes(shard, release),
                    Standing::Idle | Standing::Held(_) => {
                        return self.starts.steps.iter().find(|step| step.ordinal == ordinal).cloned();
                    }
                }
            }
        };
        Some(Step { ordinal, action, reason })
    }

    fn moves(&self, shard: &Shard) -> Reason {
        let Desired { evict_rate: rate, deadline, .. } = *self.view.desired;
        let age = self.view.age(shard);
        let left = age.map(|age| deadline.saturating_sub(age));
        if shard.state == State::Silent {
            return Reason::Silent { age, left };
        }
        let moved = Duration::from_secs(1).saturating_mul(shard.connections) / rate.max(1);
        Reason::Drains { connections: shard.connections, rate, left: left.unwrap_or(deadline).min(moved) }
    }

    fn goes(&self, shard: &Shard, release: Release) -> (Action, Reason) {
        let Some(cause) = self.view.cause(shard) else { return (Action::Wait, as_it_is(self.view, shard)) };
        if let Some(action) = exit(self.view, shard, self.replicas, self.partition) {
            return (action, Reason::Goes { cause, release });
        }
        let first = if shard.ordinal >= self.view.keep { self.replicas } else { self.partition };
        (Action::Wait, Reason::Waits(Blocked::Behind { ordinal: first.saturating_sub(1) }))
    }
}

pub(crate) fn as_it_is(view: &View<'_>, shard: &Shard) -> Reason {
    let age = view.age(shard);
    match shard.state {
        State::Starting => Reason::Starts { age },
        State::Failing => Reason::Fails { revision: shard.revision.clone() },
        State::Silent => Reason::Silent { age, left: None },
        State::Leaving => Reason::Leaves { connections: shard.connections },
        State::Ready | State::Full | State::Draining => {
            Reason::Serves { connections: shard.connections, capacity: shard.capacity }
        }
    }
}

/// When a step should be over; a second at least, as nobody asks more often than that.
pub(crate) fn expected(view: &View<'_>, step: &Step) -> Option<Duration> {
    let left = match &step.reason {
        Reason::Drains { left, .. } => *left,
        Reason::Silent { left, .. } => (*left)?,
        Reason::Begins { connections, rate, .. } => {
            let moved = Duration::from_secs(1).saturating_mul(*connections) / (*rate).max(1);
            moved.min(view.desired.deadline)
        }
        _ => return None,
    };
    Some(left.max(Duration::from_secs(1)))
}

/// When nobody waits any more for a shard that leaves.
pub(crate) fn ends(view: &View<'_>, shard: &Shard) -> Option<Duration> {
    let age = view.age(shard).filter(|_| shard.state == State::Leaving)?;
    let left = view.desired.deadline.checked_sub(age).filter(|left| !left.is_zero())?;
    Some(left.max(Duration::from_secs(1)))
}
