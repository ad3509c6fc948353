//! Clients: they come, hold a connection, and when it ends come back with the position that they have seen.

use rand::RngExt as _;

use crate::Ms;
use crate::event::Event;
use crate::log;
use crate::mutant::Mutant;
use crate::world::World;

/// A client.
#[derive(Clone, Debug)]
pub struct Client {
    /// What it does.
    pub state: State,
    /// Counts its states, so that what was planned in an earlier one is void.
    pub epoch: u32,
    /// The offset that it expects next, once it has seen anything.
    pub position: Option<u64>,
    /// Since when it is without a connection.
    pub homeless_since: Ms,
}

/// What a client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not come yet, or waits before it dials.
    Away,
    /// It has left for good.
    Left,
    /// Its gateway looks for a slot.
    Asking {
        /// Which gateway.
        gateway: usize,
        /// Shards that were tried, a bit each.
        tried: u128,
        /// When that began.
        began: Ms,
        /// How long it waits at most for a slot.
        until: Ms,
    },
    /// It has a slot.
    Connected {
        /// Through this gateway.
        gateway: usize,
        /// On this pod.
        uid: u32,
        /// Where it stands in the list of that shard.
        place: usize,
        /// First offset of this session.
        from: u64,
    },
}

impl World {
    /// It comes back after `delay`.
    pub(crate) fn back_off(&mut self, client: u32, delay: Ms) {
        let who = &mut self.clients[client as usize];
        if who.state == State::Left {
            return;
        }
        who.state = State::Away;
        who.epoch += 1;
        let epoch = who.epoch;
        self.queue.plan(self.now + delay, Event::Knock(client, epoch));
    }

    /// Its connection breaks without a word, and what was on the wire with it; `dark` tells since when nothing came through.
    pub(crate) fn cut_off(&mut self, client: u32, dark: Option<Ms>) {
        let lost = self.rng.random_range(0..300);
        self.end_session(client, Some(dark.unwrap_or(self.now).saturating_sub(lost)));
        let delay = self.rng.random_range(50..1_000);
        self.back_off(client, delay);
    }

    /// The session ends, and the slot is free. All arrived that the shard has read by now, or by `until`.
    pub(crate) fn end_session(&mut self, client: u32, until: Option<Ms>) {
        let State::Connected { uid, from, .. } = self.clients[client as usize].state else { return };
        if let Some(pod) = self.pod(uid) {
            let read = pod.process.reader.at(self.now);
            let arrived = until.map_or(read, |until| read.min(log::end(until.saturating_sub(pod.process.reader.lag))));
            self.clients[client as usize].position = Some(arrived.max(from));
        }
        self.free_slot(client);
        self.clients[client as usize].homeless_since = self.now;
    }

    /// It has a slot of `uid`, and subscribes with its position.
    pub(crate) fn connect(&mut self, client: u32, gateway: usize, uid: u32) {
        let now = self.now;
        let mutant = self.mutant;
        let seen = self.clients[client as usize].position;
        let Some(pod) = self.pod_mut(uid) else { return };
        let reader = pod.process.reader;
        let place = pod.process.slots.len();
        pod.process.slots.push(client);
        let ordinal = pod.ordinal;
        let (from, is_told) = match seen {
            None => (reader.at(now), true),
            Some(_) if mutant == Some(Mutant::ForgetsPosition) => (reader.at(now), false),
            Some(position) if mutant == Some(Mutant::Repeats) => (position.saturating_sub(1), false),
            // The shard is behind, and does not read: it cannot tell what was missed.
            Some(position) if position > reader.at(now) && reader.stopped.is_some() => (reader.at(now), true),
            Some(position) if position < reader.low(now) && mutant != Some(Mutant::ReadyTooEarly) => {
                (reader.at(now), true)
            }
            Some(position) => (position.max(reader.low(now)), false),
        };
        if let Some(position) = seen {
            self.check_session(client, ordinal, position, from, is_told);
        }
        let who = &mut self.clients[client as usize];
        who.state = State::Connected { gateway, uid, place, from };
        who.position = Some(from);
        who.epoch += 1;
        self.sessions += 1;
    }

    /// It leaves for good.
    pub(crate) fn leave(&mut self, client: u32) {
        self.end_session(client, None);
        self.clients[client as usize].state = State::Left;
        self.clients[client as usize].epoch += 1;
    }
}
