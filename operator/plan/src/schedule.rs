//! Selects the steps that start now: the highest ordinal first, within the limit of shards in motion, and only if the
//! other shards have enough free slots.

use crate::classify::Class;
use crate::slots::Slots;
use crate::unready::Unready;
use crate::view::View;
use crate::{Action, Blocked, Cause, Reason, Shard, State, Step, UndrainCause};

/// The steps that start now, and why others do not.
pub(crate) struct Schedule<'a> {
    view: &'a View<'a>,
    classes: &'a [Class],
    replicas: u32,
    slots: Slots,
    /// Shards in motion, including those that start now.
    moving: u32,
    /// Shards of the wanted revision that a replacement waits for.
    unready: Unready,
    /// The highest shards that must go but have to wait, by [`SURPLUS`] and [`STALE`].
    waiting: [Option<u32>; 2],
    /// The step of each serving shard that must go.
    pub(crate) steps: Vec<Step>,
    /// Why the highest of them does not start, if that may take long.
    pub(crate) blocked: Option<Blocked>,
    /// Whether an extra shard is started.
    pub(crate) surges: bool,
}

const SURPLUS: usize = 0;
const STALE: usize = 1;

impl<'a> Schedule<'a> {
    pub(crate) fn new(view: &'a View<'a>, classes: &'a [Class], replicas: u32, partition: u32) -> Self {
        let shards = || view.observed.shards.iter().zip(classes);
        let in_motion = |(shard, class): &(&Shard, &Class)| match class {
            Class::Moving => true,
            Class::Leaving | Class::Removed => !view.never_ends(shard),
            Class::Released(_) => shard.state == State::Draining || view.exit(shard, replicas, partition).is_some(),
            Class::Wanted | Class::Undrain(_) | Class::Silent | Class::Held(_) | Class::Serving => false,
        };
        Self {
            slots: Slots::new(view, classes),
            moving: shards().filter(in_motion).count() as u32,
            unready: Unready::new(view, replicas),
            view,
            classes,
            replicas,
            waiting: [None; 2],
            steps: Vec::new(),
            blocked: None,
            surges: false,
        }
    }

    pub(crate) fn walk(mut self) -> Self {
        let view = self.view;
        for (shard, class) in view.observed.shards.iter().zip(self.classes).rev() {
            match class {
                Class::Serving => self.consider(shard),
                Class::Held(blocked) => self.waits_for(shard, *blocked),
                // A lower ordinal must not overtake it.
                Class::Undrain(cause) if *cause != UndrainCause::Wanted => self.waits(shard),
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
            return Some(Blocked::Unreachable { ordinal, connections, age });
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
