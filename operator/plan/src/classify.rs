//! Classifies each shard before a plan starts anything new: it stays, it leaves, it may go, or it must wait.
//!
//! Two orders hold. Surplus shards leave from the top, because a `StatefulSet` removes the highest ordinal first.
//! Shards of another revision are replaced from the top, because `partition` releases ordinals from there. A drain
//! that could never complete, because a shard above must go first and has not started, is cancelled.

use crate::unready::Unready;
use crate::view::View;
use crate::{Blocked, Release, Shard, State, UndrainCause};

/// The class of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It stays.
    Wanted,
    /// The `StatefulSet` no longer includes it.
    Removed,
    /// Its pod is terminating.
    Leaving,
    /// It must go and may go now.
    Released(Release),
    /// It must go, and drains or is silent until its deadline.
    Moving,
    /// It drains, but its drain must be cancelled.
    Undrain(UndrainCause),
    /// It must go, is silent, and another shard goes first.
    Silent,
    /// It must go, is silent past its deadline, and may not go yet.
    Held(Blocked),
    /// It must go, and serves clients according to itself or its kubelet.
    Serving,
}

impl View<'_> {
    /// The class of each shard in `observed.shards`.
    pub(crate) fn classes(&self) -> Vec<Class> {
        let mut departures = Departures { going: self.going(), ..Departures::default() };
        let classify = |shard| self.class(shard, &mut departures);
        let mut classes: Vec<_> = self.observed.shards.iter().rev().map(classify).collect();
        classes.reverse();
        classes
    }

    fn class(&self, shard: &Shard, departures: &mut Departures) -> Class {
        // A shard that is no longer asked for and has not started to terminate may be kept after all.
        if shard.ordinal >= self.replicas && (shard.ordinal >= self.keep || shard.state == State::Leaving) {
            return Class::Removed;
        }
        if shard.state == State::Leaving {
            return Class::Leaving;
        }
        let (is_surplus, is_stale) = (shard.ordinal >= self.keep, self.is_stale(shard));
        if !is_surplus && !is_stale {
            return if shard.state == State::Draining { Class::Undrain(UndrainCause::Wanted) } else { Class::Wanted };
        }
        let first = if is_surplus { departures.surplus } else { departures.stale };
        match shard.state {
            State::Starting | State::Failing => Class::Released(Release::Empty),
            State::Ready | State::Full | State::Leaving => {
                departures.waits(shard.ordinal, is_surplus, is_stale);
                Class::Serving
            }
            // It serves, and only the caller has lost contact: it must drain like any other shard, when it can be
            // reached.
            State::Silent if shard.pod_ready => {
                departures.waits(shard.ordinal, is_surplus, is_stale);
                Class::Serving
            }
            State::Silent if self.is_overdue(shard) => {
                if let Some(blocked) = self.holds(shard, departures.going) {
                    return Class::Held(blocked);
                }
                departures.going += 1;
                Class::Released(Release::Deadline { connections: shard.connections })
            }
            State::Silent if first.is_some() => Class::Silent,
            State::Silent => Class::Moving,
            State::Draining => {
                let class = self.draining(shard, first, departures.moving);
                match class {
                    Class::Undrain(_) => departures.waits(shard.ordinal, is_surplus, is_stale),
                    _ => departures.moving += 1,
                }
                class
            }
        }
    }

    /// The class of a draining shard that must go. `first` is the shard that must go before it and has not started.
    fn draining(&self, shard: &Shard, first: Option<u32>, moving: u32) -> Class {
        if let Some(ordinal) = first {
            Class::Undrain(UndrainCause::Behind { ordinal })
        } else if moving >= self.most() {
            Class::Undrain(UndrainCause::InMotion { most: self.most() })
        } else if shard.connections == 0 {
            Class::Released(Release::Drained)
        } else if self.is_overdue(shard) {
            Class::Released(Release::Deadline { connections: shard.connections })
        } else if self.observed.shards.iter().all(|other| other.free() == 0) {
            Class::Undrain(UndrainCause::OthersFull)
        } else {
            Class::Moving
        }
    }

    /// Shards in motion that a silent shard must wait for.
    fn going(&self) -> u32 {
        let is_going = |shard: &&Shard| match shard.state {
            State::Leaving => !self.never_ends(shard),
            _ if shard.ordinal >= self.replicas && shard.ordinal >= self.keep => true,
            State::Draining => self.cause(shard).is_some() && shard.connections > 0 && !self.is_overdue(shard),
            _ => false,
        };
        self.observed.shards.iter().filter(is_going).count() as u32
    }

    /// What blocks a silent shard past its deadline while `going` others are in motion. It may still serve, so the
    /// rules for a serving shard apply, except that no free slots are required.
    fn holds(&self, shard: &Shard, going: u32) -> Option<Blocked> {
        let (ordinal, most) = (shard.ordinal, self.most());
        let is_replaced = ordinal < self.keep;
        if is_replaced && self.desired.supervised && self.desired.approved != Some(ordinal) {
            return Some(Blocked::Approval { ordinal });
        }
        if going >= most {
            return Some(Blocked::InMotion { most });
        }
        if is_replaced { Unready::new(self, self.replicas).obstacle(going, most) } else { None }
    }
}

/// What is known about the shards above the one that is classified.
#[derive(Default)]
struct Departures {
    /// The highest surplus shard that has not started to leave.
    surplus: Option<u32>,
    /// The highest shard of another revision that has not started to leave.
    stale: Option<u32>,
    /// Draining shards that must go.
    moving: u32,
    /// Shards in motion, including silent shards that are released.
    going: u32,
}

impl Departures {
    fn waits(&mut self, ordinal: u32, is_surplus: bool, is_stale: bool) {
        if is_surplus {
            self.surplus.get_or_insert(ordinal);
        }
        if is_stale {
            self.stale.get_or_insert(ordinal);
        }
    }
}
