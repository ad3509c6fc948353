//! Writes one step for every shard, with its reason.

use std::time::Duration;

use crate::classify::Class;
use crate::schedule::Schedule;
use crate::view::View;
use crate::{Action, Blocked, Desired, Reason, Release, Shard, State, Step};

/// Everything that the steps of a plan depend on.
pub(crate) struct StepWriter<'a> {
    pub(crate) view: &'a View<'a>,
    pub(crate) classes: &'a [Class],
    pub(crate) schedule: &'a Schedule<'a>,
    pub(crate) replicas: u32,
    pub(crate) partition: u32,
}

impl StepWriter<'_> {
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
                match self.classes[at] {
                    Class::Wanted | Class::Silent => (Action::Wait, unchanged(self.view, shard)),
                    Class::Removed if ordinal < self.view.keep => (Action::Wait, Reason::Predecessor),
                    Class::Removed | Class::Leaving => {
                        (Action::Wait, Reason::Leaves { connections: shard.connections })
                    }
                    Class::Moving => (Action::Wait, self.moving(shard)),
                    Class::Undrain(cause) => {
                        (Action::Undrain, Reason::Undrains { connections: shard.connections, cause })
                    }
                    Class::Released(release) => self.released(shard, release),
                    Class::Serving | Class::Held(_) => {
                        return self.schedule.steps.iter().find(|step| step.ordinal == ordinal).cloned();
                    }
                }
            }
        };
        Some(Step { ordinal, action, reason })
    }

    fn moving(&self, shard: &Shard) -> Reason {
        let Desired { evict_rate: rate, deadline, .. } = *self.view.desired;
        let age = self.view.age(shard);
        let left = age.map(|age| deadline.saturating_sub(age));
        if shard.state == State::Silent {
            return Reason::Silent { age, left };
        }
        let moved = Duration::from_secs(1).saturating_mul(shard.connections) / rate.max(1);
        Reason::Drains { connections: shard.connections, rate, left: left.unwrap_or(deadline).min(moved) }
    }

    fn released(&self, shard: &Shard, release: Release) -> (Action, Reason) {
        let Some(cause) = self.view.cause(shard) else { return (Action::Wait, unchanged(self.view, shard)) };
        if let Some(action) = self.view.exit(shard, self.replicas, self.partition) {
            return (action, Reason::Goes { cause, release });
        }
        let first = if shard.ordinal >= self.view.keep { self.replicas } else { self.partition };
        (Action::Wait, Reason::Waits(Blocked::Behind { ordinal: first.saturating_sub(1) }))
    }
}

/// The reason of a step that leaves the shard as it is.
pub(crate) fn unchanged(view: &View<'_>, shard: &Shard) -> Reason {
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

/// When a step should be complete; at least one second from now, so that callers do not spin.
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

/// When a terminating pod is overdue, so that nothing waits for it any longer.
pub(crate) fn termination_due(view: &View<'_>, shard: &Shard) -> Option<Duration> {
    let age = view.age(shard).filter(|_| shard.state == State::Leaving)?;
    let left = view.desired.deadline.checked_sub(age).filter(|left| !left.is_zero())?;
    Some(left.max(Duration::from_secs(1)))
}
