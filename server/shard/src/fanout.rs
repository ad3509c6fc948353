//! Fan-out of records: marks each record as due to its subscribers, then writes to their sockets in slices, so that a
//! channel with ten thousand subscribers delays neither other channels nor reads and accepts.
//!
//! Back-pressure: while many bytes are due, no more updates are taken from the source, and lag grows. Records that
//! arrive before a connection has had its turn leave in the same write.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wscluster_kafka::feed::Update;
use wscluster_protocol::reply::Reply;

use super::channels::ChannelId;
use super::worker::{Worker, now_ms};

/// Channels with more members than this on one worker use the queue for big channels.
const SMALL: usize = 256;

/// Connections written to in one slice, from each of the two queues.
const SLICE: usize = 64;

/// Updates taken between two slices.
const UPDATES: usize = 8;

/// Bytes due to connections that are not blocked, above which the source has to wait.
const MAX_DUE: usize = 32 << 20;

/// Fans out the updates of `feed`. When the feed ends, due records are still delivered and clients stay connected.
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
            // Gives reads, accepts and timers their turn.
            tokio::task::yield_now().await;
        }
    }
    tracing::info!("source ended");
}

impl Worker {
    /// Applies an update to the window, and marks its records as due to their subscribers.
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
                if !self.pending.is_empty() && records.iter().any(|record| self.pending.awaits(record.position)) {
                    self.retry_pending();
                }
            }
            // A pending request may wait for a position of a topic that was recreated.
            Update::Begin { .. } => self.retry_pending(),
            Update::Filled => self.shared.filled(),
        }
        if let Some(loss) = loss {
            for (channel, name) in self.channels.all() {
                // Fanning out to the previous channel may have disconnected the last member of this one.
                if self.channels.find(&name) == Some(channel) && self.window.touches(&loss, &name) {
                    let positions = self.window.latest_positions(&name).into();
                    let gap = Reply::Gap { channel: name.as_ref().to_owned(), positions };
                    self.fan_out(channel, gap.frame(None), None);
                }
            }
        }
    }

    /// Marks `frame` as due to every member of `channel`. With `droppable`, a slow client's policy may drop it as a
    /// message of that channel.
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
            // A connection in the queue of big channels moves to that of small ones; its old entry is skipped later.
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
        // After the members are given back, because this may end memberships.
        for key in over {
            self.on_over(key);
        }
    }

    /// Writes to one slice of connections from each queue; returns whether any are left.
    fn flush_slice(&mut self) -> bool {
        for small in [true, false] {
            let queue = if small { &mut self.small } else { &mut self.bulk };
            let slice = queue.drain(..queue.len().min(SLICE));
            // A first pass reads all connections, so that the CPU fetches their cache lines in parallel. Each write
            // evicts our lines from the cache, so reading between writes would wait for memory each time.
            let (mut due, mut len) = ([0; SLICE], 0);
            for key in slice {
                let queued = |connection: &super::connection::Connection| {
                    connection.queued_small && small || connection.queued_bulk && !small
                };
                // Skips connections that were written to, moved to the other queue, or were removed.
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
