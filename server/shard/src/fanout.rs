//! From the source to the sockets: marks what is due to whom, then writes it in slices, so that a channel with ten
//! thousand subscribers delays neither another channel nor reads and accepts.
//!
//! Taking more from the source waits while much is due (back-pressure, seen as lag); what comes while some still wait for
//! their turn leaves with the same write.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wscluster_kafka::feed::Update;
use wscluster_protocol::reply;

use super::channels::ChannelId;
use super::worker::{Worker, now_ms};

/// A channel with more members on this worker is a big one.
const SMALL: usize = 256;

/// Connections written to in one slice, from each of the two queues.
const SLICE: usize = 64;

/// Updates taken between two slices.
const UPDATES: usize = 8;

/// Bytes that may be due (not counting blocked connections) before the source has to wait.
const MAX_DUE: usize = 32 << 20;

/// Fans out what comes from `feed`; when that ends, what is there is still delivered and clients stay.
pub(super) async fn run(worker: Rc<RefCell<Worker>>, mut feed: mpsc::Receiver<Update>) {
    let coalesce = worker.borrow().shared.settings.delivery.coalesce.0;
    while let Some(update) = feed.recv().await {
        worker.borrow_mut().apply(&update);
        if !coalesce.is_zero() {
            let until = Instant::now() + coalesce;
            while worker.borrow().due_bytes <= MAX_DUE
                && let Ok(Some(update)) = tokio::time::timeout_at(until, feed.recv()).await
            {
                worker.borrow_mut().apply(&update);
            }
        }
        loop {
            {
                let mut worker = worker.borrow_mut();
                for _ in 0..UPDATES {
                    if worker.due_bytes > MAX_DUE {
                        break;
                    }
                    let Ok(update) = feed.try_recv() else { break };
                    worker.apply(&update);
                }
                if !worker.flush_slice() {
                    break;
                }
            }
            // Lets reads, accepts and timers have their turn.
            tokio::task::yield_now().await;
        }
    }
    tracing::info!("source ended");
}

impl Worker {
    /// Takes in what the source said, and marks what is due to whom.
    fn apply(&mut self, update: &Update) {
        let now = now_ms();
        let loss = self.window.apply(update, now);
        match update {
            Update::Records(records) => {
                self.tally.records += records.len() as u64;
                for record in records {
                    if let Some(channel) = self.channels.find(&record.channel) {
                        self.fan_out(channel, record.frame().clone(), Some(channel));
                    }
                }
                if let Some(last) = records.last() {
                    let age = (now - last.timestamp_ms).max(0) as f64 / 1_000.0;
                    self.shared.metrics.feed_lag.observe(age);
                }
                if !self.held.is_empty() && records.iter().any(|record| self.held.awaits(record.position)) {
                    self.retry_held();
                }
            }
            // What somebody waits for may belong to a life that is over.
            Update::Begin { .. } => self.retry_held(),
            Update::Filled => self.shared.filled(),
        }
        if let Some(loss) = loss {
            for (channel, name) in self.channels.all() {
                // The one before may have been too much for the last member of this one.
                if self.channels.find(&name) == Some(channel) && self.window.touches(&loss, &name) {
                    self.fan_out(channel, reply::gap(&name, &self.window.latest_positions(&name)), None);
                }
            }
        }
    }

    /// Marks `frame` as due to every member of `channel`; it may be dropped as one of `droppable`.
    fn fan_out(&mut self, channel: ChannelId, frame: Bytes, droppable: Option<ChannelId>) {
        let max = self.shared.settings.max_queue();
        let len = frame.len();
        let mut over = Vec::new();
        let members = self.channels.take_members(channel);
        let small = members.len() <= SMALL;
        self.outbox.begin(frame, droppable);
        for &key in &members {
            let connection = &mut self.connections[key as usize];
            connection.due = self.outbox.mark(connection.due);
            if connection.blocked.is_some() {
                self.blocked_bytes += len;
                if self.is_over(key) {
                    over.push(key);
                }
                continue;
            }
            self.due_bytes += len;
            // One that waits among the big ones moves up: its old place in line is passed over then.
            if small && !connection.queued_small {
                connection.queued_small = true;
                self.small.push_back(key);
            } else if !small && !connection.queued_small && !connection.queued_bulk {
                connection.queued_bulk = true;
                self.bulk.push_back(key);
            }
            if self.outbox.bytes(connection.due) > max {
                over.push(key);
            }
        }
        self.outbox.end();
        self.channels.give_back(channel, members);
        // Later, since it may end memberships.
        for key in over {
            self.on_over(key);
        }
    }

    /// Writes to the connections whose turn it is; whether any are left.
    fn flush_slice(&mut self) -> bool {
        for small in [true, false] {
            let queue = if small { &mut self.small } else { &mut self.bulk };
            let slice = queue.drain(..queue.len().min(SLICE));
            // All are looked at before the first write, which lets the CPU fetch their lines of memory side by side: between
            // two writes, which leave nothing of ours in its caches, it would wait for each.
            let (mut due, mut len) = ([0; SLICE], 0);
            for key in slice {
                let queued = |connection: &super::connection::Connection| {
                    connection.queued_small && small || connection.queued_bulk && !small
                };
                // Others were written to meanwhile, moved to the other queue, or are gone.
                due[len] = key;
                len += usize::from(self.connections.get(key as usize).is_some_and(queued));
            }
            for &key in &due[..len] {
                self.flush(key);
            }
        }
        !(self.small.is_empty() && self.bulk.is_empty())
    }
}

#[cfg(test)]
mod tests;
