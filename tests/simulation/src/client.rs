//! Clients: each connects, holds its connection, and resumes from its last position when the connection ends.

use rand::RngExt as _;

use crate::Ms;
use crate::event::Event;
use crate::log;
use crate::mutant::Mutant;
use crate::world::World;

/// A client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its state.
    pub state: State,
    /// Changes with every state; events of an earlier state are void.
    pub epoch: u32,
    /// The offset that it expects next, after its first session.
    pub position: Option<u64>,
    /// When it lost its connection.
    pub homeless_since: Ms,
}

/// The state of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not yet arrived, or waiting before the next attempt.
    Away,
    /// Left for good.
    Left,
    /// In a handshake: its gateway looks for a slot.
    Asking {
        /// The gateway.
        gateway: usize,
        /// A bit set of the shards that were tried.
        tried: u128,
        /// The start of the handshake.
        began: Ms,
        /// The longest wait for a slot.
        until: Ms,
    },
    /// Connected.
    Connected {
        /// The gateway.
        gateway: usize,
        /// The pod.
        uid: u32,
        /// Its index in the list of the shard.
        place: usize,
        /// The first offset of this session.
        from: u64,
    },
}

impl World {
    /// The client reconnects after `delay`.
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

    /// The connection breaks without a Close. Messages sent since `dark` are lost.
    pub(crate) fn cut_off(&mut self, client: u32, dark: Option<Ms>) {
        let lost = self.rng.random_range(0..300);
        self.end_session(client, Some(dark.unwrap_or(self.now).saturating_sub(lost)));
        let delay = self.rng.random_range(50..1_000);
        self.back_off(client, delay);
    }

    /// The session ends and the slot is free. The client has received everything that the shard has read by now, or
    /// by `until`.
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

    /// The client gets a slot of pod `uid`, and subscribes with its position.
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
            // The shard lags and does not read: it cannot know what the client missed.
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

    /// The client leaves for good.
    pub(crate) fn leave(&mut self, client: u32) {
        self.end_session(client, None);
        self.clients[client as usize].state = State::Left;
        self.clients[client as usize].epoch += 1;
    }
}
