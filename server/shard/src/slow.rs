//! Slow clients: the three policies of `slowClient` for a queue above `maxQueueBytes`.
//!
//! No policy cuts a frame, drops an answer to a request, or affects a client whose socket still accepts bytes.

use wscluster_api::spec::SlowClient;
use wscluster_protocol::close::CloseCode;

use super::metrics::Label;
use super::worker::Worker;

impl Worker {
    /// Whether the queue of a connection is above its limit.
    pub(super) fn is_over(&self, key: u32) -> bool {
        let connection = &self.connections[key as usize];
        let allowance = connection.blocked.as_ref().map_or(0, |blocked| blocked.allowance);
        !connection.due.is_none() && self.waiting(key) > self.shared.settings.max_queue() + allowance
    }

    /// Applies the policy to a connection whose queue was above its limit when a record was added.
    pub(super) fn on_over(&mut self, key: u32) {
        // Only a client whose socket accepts no more bytes is slow, so try to write first.
        match self.connections[key as usize].blocked {
            Some(_) => self.unblock(key),
            None => self.flush(key),
        }
        if !self.is_over(key) {
            return;
        }
        let delivery = &self.shared.settings.delivery;
        let (policy, slow_client) = match delivery.slow_client {
            SlowClient::Disconnect => ("disconnect", SlowClient::Disconnect),
            SlowClient::DropOldest => ("drop_oldest", SlowClient::DropOldest),
            SlowClient::Conflate => ("conflate", SlowClient::Conflate),
        };
        let before = self.waiting(key);
        let due = self.connections[key as usize].due;
        let (rest, dropped) = match slow_client {
            SlowClient::Disconnect => (due, 0),
            // Drops a quarter at a time, because each drop rebuilds the whole list.
            SlowClient::DropOldest => {
                let remainder = before - self.outbox.bytes(due);
                self.outbox.drop_oldest(due, (self.shared.settings.max_queue() / 4 * 3).saturating_sub(remainder))
            }
            SlowClient::Conflate => self.outbox.conflate(due),
        };
        let connection = &mut self.connections[key as usize];
        connection.due = rest;
        if let Some(blocked) = &mut connection.blocked
            && dropped > 0
        {
            // Dropped messages of a replay reduce its allowance, so that live messages keep the usual limit.
            let asked = blocked.remainder.len() + self.outbox.asked_bytes(rest);
            blocked.allowance = blocked.allowance.min(asked);
        }
        self.tally.dropped += u64::from(dropped);
        self.blocked_bytes = self.blocked_bytes - before + self.waiting(key);
        let policy = if self.is_over(key) {
            // One message for each channel, or answers alone, may exceed the limit too.
            self.begin_close(key, CloseCode::SlowClient, "slower than its messages: come back with the last position");
            "disconnect"
        } else {
            policy
        };
        self.shared.metrics.slow_clients.get_or_create(&Label("policy", policy)).inc();
    }
}
