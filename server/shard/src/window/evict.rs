//! Eviction: records leave the window by age, by bytes, or after a loss in their partition.

use std::sync::Arc;

use wscluster_protocol::{Epoch, Partition, Record};

use super::lane::{Evicted, Seq};
use super::{Loss, Quiet, Window, weight};

impl Window {
    pub(super) fn evict(&mut self, now_ms: i64) {
        while let Some(oldest) = self.entries.front() {
            let too_old = now_ms.saturating_sub(oldest.since_ms) > self.limits.age_ms;
            if !too_old && self.bytes <= self.limits.bytes {
                break;
            }
            if self.bytes <= self.limits.bytes.saturating_add(Self::HELD_BYTES) && self.is_held() {
                break;
            }
            self.pop();
        }
        // Otherwise the queue would keep the memory of its peak for ever.
        if self.entries.capacity() > 1_024 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    fn pop(&mut self) {
        let seq = self.base;
        let Some(entry) = self.entries.pop_front() else { return };
        self.base = seq.plus(1);
        let Some(record) = entry.record else { return };
        self.bytes -= weight(&record);
        let Record { channel, position, .. } = &*record;
        if let Some(reading) = self.partitions.get_mut(&position.partition) {
            reading.floor = position.offset + 1;
        }
        let Some(lane) = self.channels.get_mut(channel).and_then(|lanes| lanes.get_mut(position.partition)) else {
            return;
        };
        lane.evicted = Some(Evicted { offset: position.offset, seq });
        if lane.tail == seq {
            self.hush(Quiet { channel: Arc::clone(channel), partition: position.partition, seq });
        }
    }

    /// Remembers a lane without a record in the window, and forgets the one that was silent for longest.
    fn hush(&mut self, quiet: Quiet) {
        self.quiet.push_back(quiet);
        if self.quiet.len() <= self.limits.quiet {
            return;
        }
        let Some(Quiet { channel, partition, seq }) = self.quiet.pop_front() else { return };
        let Some(lanes) = self.channels.get_mut(&channel) else { return };
        // The lane may have got a record since.
        let still = |lane: &super::lane::Lane| lane.tail <= seq && lane.evicted.is_some_and(|gone| gone.seq == seq);
        if lanes.get(partition).is_some_and(still) {
            lanes.remove_if(|lane| lane.partition == partition);
            self.forgotten = self.forgotten.max(seq);
            if lanes.is_empty() {
                self.channels.remove(&channel);
            }
        }
    }

    /// Drops the records of `partition`, which begins anew at `from` after a loss.
    pub(super) fn lose(&mut self, partition: Partition, from: i64, loss: &mut Loss) {
        self.drop_records(|at| at == partition);
        // An empty entry after every applied record: positions before it may have missed records.
        let seq = self.base.plus(self.entries.len());
        self.entries.push_back(super::Entry {
            record: None,
            since_ms: self.entries.back().map_or(i64::MIN, |entry| entry.since_ms),
            before: Seq::NONE,
        });
        let mut silenced = Vec::new();
        for (channel, lanes) in &mut self.channels {
            if let Some(lane) = lanes.get_mut(partition) {
                lane.tail = Seq::NONE;
                lane.evicted = Some(Evicted { offset: from - 1, seq });
                loss.channels.insert(Arc::clone(channel));
                silenced.push(Quiet { channel: Arc::clone(channel), partition, seq });
            }
        }
        for quiet in silenced {
            self.hush(quiet);
        }
    }

    /// Forgets the partitions of `topic` that have another epoch than `epoch`.
    pub(super) fn end_other_incarnations(&mut self, topic: &str, epoch: Epoch, loss: &mut Loss) {
        let ended = |at: &Partition, of: &str| of == topic && at.epoch != epoch;
        let gone: Vec<_> =
            self.partitions.iter().filter(|(at, reading)| ended(at, &reading.topic)).map(|(at, _)| *at).collect();
        self.partitions.retain(|at, _| !gone.contains(at));
        self.drop_records(|at| gone.contains(&at));
        self.channels.retain(|channel, lanes| {
            let before = lanes.len();
            lanes.remove_if(|lane| gone.contains(&lane.partition));
            if lanes.len() < before {
                loss.channels.insert(Arc::clone(channel));
            }
            !lanes.is_empty()
        });
    }

    fn drop_records(&mut self, gone: impl Fn(Partition) -> bool) {
        for entry in &mut self.entries {
            if let Some(record) = entry.record.take_if(|record| gone(record.position.partition)) {
                self.bytes -= weight(&record);
            }
        }
    }
}
