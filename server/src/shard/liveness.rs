//! Pings, silence and the end of lingering: what happens to a connection when its deadline on the wheel comes.

use rand::RngExt as _;

use super::connection::Phase;
use super::worker::Worker;
use crate::ws::frame::{Opcode, server_frame};

impl Worker {
    /// Gives a new connection its first deadline, somewhere in the first interval: those that came together are not
    /// pinged together.
    pub(super) fn start_liveness(&mut self, key: u32) {
        let share = rand::rng().random_range(0.5..1.0);
        self.ping_later(key, share);
    }

    fn ping_later(&mut self, key: u32, share: f64) {
        let delivery = &self.shared.settings.delivery;
        let now = self.wheel.now();
        let connection = &mut self.connections[key as usize];
        connection.ping_at = now.after(delivery.ping_interval.0.mul_f64(share));
        connection.deadline = connection.ping_at.min(connection.seen.after(delivery.pong_timeout.0));
        self.wheel.add(key, connection.deadline);
    }

    /// One step of the wheel.
    pub(super) fn tick(&mut self) {
        let mut keys = Vec::new();
        self.wheel.step(&mut keys);
        for key in keys {
            self.look_at(key);
        }
        self.retry_held();
    }

    fn look_at(&mut self, key: u32) {
        let now = self.wheel.now();
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        if connection.deadline != now {
            // Moved since; or another connection got the key of one that ended.
            return;
        }
        let silent_at = connection.seen.after(self.shared.settings.delivery.pong_timeout.0);
        if connection.phase != Phase::Open || silent_at <= now {
            // Lingered or was silent for too long: no Close frame would reach it either.
            connection.kill();
        } else if connection.ping_at <= now {
            if connection.blocked.is_none() {
                // A blocked one shows its life by taking bytes.
                self.send(key, server_frame(Opcode::Ping, b""));
                self.flush(key);
            }
            let share = rand::rng().random_range(0.95..1.0);
            self.ping_later(key, share);
        } else {
            connection.deadline = connection.ping_at.min(silent_at);
            let deadline = connection.deadline;
            self.wheel.add(key, deadline);
        }
    }
}
