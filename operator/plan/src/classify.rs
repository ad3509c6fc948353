//! Where each shard stands before a plan starts anything new: wanted, leaving, on its way out, or about to go.
//!
//! Two orders hold. Shards that are too many leave from the top, as a `StatefulSet` takes the highest ordinal first. Shards of
//! another revision are replaced from the top, as its partition lets go of ordinals from there. A drain that can never
//! finish, because a shard above it has to go first and has not begun, is taken back.

use std::time::Duration;

use crate::unready::Unready;
use crate::{Back, Blocked, Cause, Desired, Observed, Release, Shard, State, Timestamp};

/// Where a shard stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It stays.
    Wanted,
    /// The `StatefulSet` does not ask for it any more.
    Removed,
    /// Its pod is terminating.
    Leaving,
    /// It has to go and may.
    Released(Release),
    /// It has to go, and moves its connections or waits in silence for its deadline.
    Moving,
    /// It drains and shall not.
    Back(Back),
    /// It has to go, is silent, and another goes first.
    Silent,
    /// It has to go, is silent, its time is up, and it may not go yet.
    Held(Blocked),
    /// It has to go and serves, by its own word or by its kubelet's.
    Idle,
}

/// A spec and an observation.
pub(crate) struct View<'a> {
    pub(crate) desired: &'a Desired,
    pub(crate) observed: &'a Observed,
    pub(crate) now: Timestamp,
    /// Replicas that are asked for now; where there is no `StatefulSet`, those that its pods would need.
    pub(crate) replicas: u32,
    /// Ordinals below stay: those wanted, and while shards are replaced the extra one that gives slots.
    pub(crate) keep: u32,
}

impl<'a> View<'a> {
    pub(crate) fn new(desired: &'a Desired, observed: &'a Observed, now: Timestamp) -> Self {
        let view = Self { desired, observed, now, replicas: replicas(observed), keep: desired.shards };
        Self { keep: desired.shards.saturating_add(u32::from(view.keeps_extra())), ..view }
    }

    /// An extra shard is of use while some shard is of another revision, and it is not.
    fn keeps_extra(&self) -> bool {
        let wanted = self.desired.shards;
        let is_good = |extra: &Shard| !self.is_stale(extra) && !matches!(extra.state, State::Draining | State::Leaving);
        let stale = |shard: &Shard| shard.ordinal < wanted && self.is_stale(shard) && shard.state != State::Leaving;
        self.desired.surge
            && self.replicas > wanted
            && self.observed.at(wanted).is_none_or(is_good)
            && self.observed.shards.iter().any(stale)
    }

    /// Whether it runs another revision than the wanted one.
    pub(crate) fn is_stale(&self, shard: &Shard) -> bool {
        shard.revision != self.desired.revision
    }

    /// Why it has to go, if it has to.
    pub(crate) fn cause(&self, shard: &Shard) -> Option<Cause> {
        if shard.ordinal >= self.keep {
            Some(Cause::Surplus { wanted: self.desired.shards })
        } else if self.is_stale(shard) {
            Some(Cause::Revision { from: shard.revision.clone(), to: self.desired.revision.clone() })
        } else {
            None
        }
    }

    /// Whether its deadline has passed.
    pub(crate) fn is_overdue(&self, shard: &Shard) -> bool {
        shard.since.is_some_and(|since| since + self.desired.deadline <= self.now)
    }

    /// Whether it leaves and its time is up, as when its node is lost: nobody waits for it, nor for slots for whom it held.
    pub(crate) fn never_ends(&self, shard: &Shard) -> bool {
        shard.state == State::Leaving && self.is_overdue(shard)
    }

    /// For how long it has been what it is.
    pub(crate) fn age(&self, shard: &Shard) -> Option<Duration> {
        shard.since.map(|since| self.now.since(since))
    }

    /// How many may be in motion.
    pub(crate) fn most(&self) -> u32 {
        self.desired.max_in_motion.max(1)
    }

    /// Where each of `observed.shards` stands.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let mut order = Order { going: self.going(), ..Order::default() };
        let mut standings: Vec<_> =
            self.observed.shards.iter().rev().map(|shard| self.standing(shard, &mut order)).collect();
        standings.reverse();
        standings
    }

    fn standing(&self, shard: &Shard, order: &mut Order) -> Standing {
        // One that is asked for no longer and has not begun to leave may be asked for again.
        if shard.ordinal >= self.replicas && (shard.ordinal >= self.keep || shard.state == State::Leaving) {
            return Standing::Removed;
        }
        if shard.state == State::Leaving {
            return Standing::Leaving;
        }
        let (is_surplus, is_stale) = (shard.ordinal >= self.keep, self.is_stale(shard));
        if !is_surplus && !is_stale {
            return if shard.state == State::Draining { Standing::Back(Back::Wanted) } else { Standing::Wanted };
        }
        let first = if is_surplus { order.surplus } else { order.stale };
        match shard.state {
            State::Starting | State::Failing => Standing::Released(Release::HoldsNobody),
            State::Ready | State::Full | State::Leaving => {
                order.idle(shard.ordinal, is_surplus, is_stale);
                Standing::Idle
            }
            // It serves, and whoever asks cannot reach it: it has to be told to drain like any other, when it can.
            State::Silent if shard.ready => {
                order.idle(shard.ordinal, is_surplus, is_stale);
                Standing::Idle
            }
            State::Silent if self.is_overdue(shard) => {
                if let Some(blocked) = self.holds(shard, order.going) {
                    return Standing::Held(blocked);
                }
                order.going += 1;
                Standing::Released(Release::Deadline { connections: shard.connections })
            }
            State::Silent if first.is_some() => Standing::Silent,
            State::Silent => Standing::Moving,
            State::Draining => {
                let standing = self.draining(shard, first, order.moving);
                match standing {
                    Standing::Back(_) => order.idle(shard.ordinal, is_surplus, is_stale),
                    _ => order.moving += 1,
                }
                standing
            }
        }
    }

    /// Of a shard that drains and has to go, where `first` has to go before it and has not begun.
    fn draining(&self, shard: &Shard, first: Option<u32>, moving: u32) -> Standing {
        if let Some(ordinal) = first {
            Standing::Back(Back::Behind { ordinal })
        } else if moving >= self.most() {
            Standing::Back(Back::InMotion { most: self.most() })
        } else if shard.connections == 0 {
            Standing::Released(Release::Drained)
        } else if self.is_overdue(shard) {
            Standing::Released(Release::Deadline { connections: shard.connections })
        } else if self.observed.shards.iter().all(|other| other.free() == 0) {
            Standing::Back(Back::OthersFull)
        } else {
            Standing::Moving
        }
    }

    /// Shards in motion, as far as a silent one has to wait for them.
    fn going(&self) -> u32 {
        let is_going = |shard: &&Shard| match shard.state {
            State::Leaving => !self.never_ends(shard),
            _ if shard.ordinal >= self.replicas && shard.ordinal >= self.keep => true,
            State::Draining => self.cause(shard).is_some() && shard.connections > 0 && !self.is_overdue(shard),
            _ => false,
        };
        self.observed.shards.iter().filter(is_going).count() as u32
    }

    /// What keeps a silent shard whose time is up from going, while so many others go: it may serve all the same, so all holds for it
    /// that holds for one that is known to, but that nobody asks for slots any more.
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

/// Without a `StatefulSet`, or with one that a hand has scaled to nothing, pods may still be there and serve: a new one has to
/// ask for all of them, or it deletes them.
fn replicas(observed: &Observed) -> u32 {
    let stays = |shard: &&Shard| shard.state != State::Leaving;
    match observed.replicas {
        0 => observed.shards.iter().rfind(stays).map_or(0, |shard| shard.ordinal.saturating_add(1)),
        replicas => replicas,
    }
}

/// The highest shards that have to go and have not begun, how many drain, and how many are on their way with those that are let go.
#[derive(Default)]
struct Order {
    surplus: Option<u32>,
    stale: Option<u32>,
    moving: u32,
    going: u32,
}

impl Order {
    fn idle(&mut self, ordinal: u32, is_surplus: bool, is_stale: bool) {
        if is_surplus {
            self.surplus.get_or_insert(ordinal);
        }
        if is_stale {
            self.stale.get_or_insert(ordinal);
        }
    }
}
