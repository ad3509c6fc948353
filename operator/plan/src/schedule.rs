//! Which steps start now: the highest first, within what may be in motion, and only where the others have the slots.

use crate::decide::exit;
use crate::slots::Slots;
use crate::standing::{Standing, View};
use crate::unready::Unready;
use crate::{Action, Back, Blocked, Cause, Reason, Shard, State, Step};

/// The steps that start now, and why others do not.
pub(crate) struct Starts<'a> {
    view: &'a View<'a>,
    standings: &'a [Standing],
    replicas: u32,
    slots: Slots,
    /// Shards in motion, with those that start now.
    moving: u32,
    /// Shards of the wanted revision that a replacement waits for.
    unready: Unready,
    /// The highest shards that have to go and do not start.
    waiting: [Option<u32>; 2],
    /// Of every shard that serves and has to go.
    pub(crate) steps: Vec<Step>,
    /// Why the highest of them does not start, where that may last.
    pub(crate) blocked: Option<Blocked>,
    /// One shard more is started for its slots.
    pub(crate) surges: bool,
}

const SURPLUS: usize = 0;
const STALE: usize = 1;

impl<'a> Starts<'a> {
    pub(crate) fn new(view: &'a View<'a>, standings: &'a [Standing], replicas: u32, partition: u32) -> Self {
        let shards = || view.observed.shards.iter().zip(standings);
        let in_motion = |(shard, standing): &(&Shard, &Standing)| match standing {
            Standing::Moving => true,
            // One that never ends is in nobody's way.
            Standing::Leaving | Standing::Removed => !view.never_ends(shard),
            Standing::Released(_) => shard.state == State::Draining || exit(view, shard, replicas, partition).is_some(),
            Standing::Wanted | Standing::Back(_) | Standing::Silent | Standing::Held(_) | Standing::Idle => false,
        };
        Self {
            slots: Slots::new(view, standings),
            moving: shards().filter(in_motion).count() as u32,
            unready: Unready::new(view, replicas),
            view,
            standings,
            replicas,
            waiting: [None; 2],
            steps: Vec::new(),
            blocked: None,
            surges: false,
        }
    }

    pub(crate) fn walk(mut self) -> Self {
        let view = self.view;
        for (shard, standing) in view.observed.shards.iter().zip(self.standings).rev() {
            match standing {
                Standing::Idle => self.consider(shard),
                Standing::Held(blocked) => self.waits_for(shard, *blocked),
                // Nothing of a lower ordinal overtakes it.
                Standing::Back(why) if *why != Back::Wanted => self.waits(shard),
                _ => {}
            }
        }
        self
    }

    fn consider(&mut self, shard: &Shard) {
        let Some(cause) = self.view.cause(shard) else { return };
        let desired = self.view.desired;
        if let Some(blocked) = self.obstacle(shard, &cause) {
            self.waits_for(shard, blocked);
            return;
        }
        let free = self.slots.free_without(shard);
        self.slots.go(shard);
        self.moving += 1;
        let (rate, connections) = (desired.evict_rate, shard.connections);
        let action = Action::Drain { rate, deadline: desired.deadline };
        let reason = Reason::Begins { cause, connections, rate, free };
        self.steps.push(Step { ordinal: shard.ordinal, action, reason });
    }

    fn waits_for(&mut self, shard: &Shard, blocked: Blocked) {
        self.waits(shard);
        if blocked.is_lasting() {
            self.blocked.get_or_insert(blocked);
        }
        self.steps.push(Step { ordinal: shard.ordinal, action: Action::Wait, reason: Reason::Waits(blocked) });
    }

    fn waits(&mut self, shard: &Shard) {
        if shard.ordinal >= self.view.keep {
            self.waiting[SURPLUS].get_or_insert(shard.ordinal);
        }
        if self.view.is_stale(shard) {
            self.waiting[STALE].get_or_insert(shard.ordinal);
        }
    }

    /// What keeps the step of `shard` from starting.
    fn obstacle(&mut self, shard: &Shard, cause: &Cause) -> Option<Blocked> {
        let desired = self.view.desired;
        let ordinal = shard.ordinal;
        let most = self.view.most();
        let is_replaced = matches!(cause, Cause::Revision { .. });
        if let Some(ordinal) = self.waiting[if is_replaced { STALE } else { SURPLUS }] {
            return Some(Blocked::Behind { ordinal });
        }
        if shard.state == State::Silent {
            let (connections, age) = (shard.connections, self.view.age(shard));
            return Some(Blocked::Unreached { ordinal, connections, age });
        }
        if is_replaced && desired.supervised && desired.approved != Some(ordinal) {
            return Some(Blocked::Approval { ordinal });
        }
        if self.moving >= most {
            return Some(Blocked::InMotion { most });
        }
        if is_replaced && let Some(blocked) = self.unready.obstacle(self.moving, most) {
            return Some(blocked);
        }
        let missing = self.slots.missing_without(shard);
        if missing == 0 {
            return None;
        }
        if is_replaced && self.can_surge(missing) {
            self.surges = true;
            return Some(Blocked::Surge { ordinal: self.replicas, missing });
        }
        Some(Blocked::Slots { ordinal, missing, free: self.slots.free_without(shard) })
    }

    fn can_surge(&self, missing: u32) -> bool {
        let View { desired, observed, .. } = self.view;
        desired.surge
            && missing <= desired.capacity
            && self.replicas == desired.shards
            && self.view.replicas <= desired.shards
            && observed.at(desired.shards).is_none()
    }
}
