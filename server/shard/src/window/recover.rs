//! Which records a client missed: recovery by `since`, and by the offsets of the old `reconnect`.

use std::collections::HashMap;
use std::sync::Arc;

use wscluster_protocol::{LostReason, Partition, Position, Record};

use super::Window;
use super::lane::{Lane, Lanes, Seq};

/// What a reconnecting client missed.
#[derive(Clone, Debug)]
pub(crate) enum Recovery {
    /// Every record that the client missed, in order; the record that the worker applies next follows without a hole.
    Complete(Vec<Arc<Record>>),
    /// The client has seen this position on another shard and this worker has not reached it: ask again later.
    Ahead(#[cfg_attr(not(test), expect(dead_code, reason = "tests compare it"))] Position),
    /// Records may be missing: [`LostReason::TooOld`], `Epoch`, `UnknownPosition`, `SeveralPartitions` or `Recreated`.
    Lost(LostReason),
}

impl Window {
    /// The records of `channel` after `since`: the last position that the client saw in each partition.
    ///
    /// For a partition without a position, the client gets every record of the window.
    pub(crate) fn recover(&self, channel: &str, since: &[Position]) -> Recovery {
        self.recover_until(channel, since, Seq::END)
    }

    fn recover_until(&self, channel: &str, since: &[Position], until: Seq) -> Recovery {
        let Some(seen) = newest_by_partition(since) else { return Recovery::Lost(LostReason::UnknownPosition) };
        let none = Lanes::default();
        let lanes = self.channels.get(channel).unwrap_or(&none);
        let mut ahead = None;
        for (&partition, &offset) in &seen {
            match self.partitions.get(&partition) {
                None if self.is_ahead(Position { partition, offset }) => {
                    ahead = Some((partition, offset));
                }
                None => return Recovery::Lost(LostReason::Epoch),
                Some(reading) => {
                    let evicted = lanes.get(partition).and_then(|lane| lane.evicted);
                    if offset < reading.floor - 1 && evicted.is_none_or(|gone| offset < gone.offset) {
                        return Recovery::Lost(LostReason::TooOld);
                    }
                    if offset > reading.applied {
                        ahead = Some((partition, offset));
                    }
                }
            }
        }
        if let Some((partition, offset)) = ahead {
            return Recovery::Ahead(Position { partition, offset });
        }

        let mut missed = Vec::new();
        let mut newest = Seq::NONE;
        for (&partition, &offset) in &seen {
            if let Some(lane) = lanes.get(partition) {
                newest = newest.max(self.collect(lane, offset, &mut missed));
            }
        }
        for lane in lanes.iter().filter(|lane| !seen.contains_key(&lane.partition)) {
            let may_be_owed = match lane.evicted {
                // Records applied before the client's newest record are older than the client's absence.
                Some(gone) => gone.seq >= newest,
                // There may be records from before this worker began to read, or from a loss.
                None => self.partitions.get(&lane.partition).is_none_or(|at| at.begun > 0 && at.begun_at >= newest),
            };
            if may_be_owed {
                return Recovery::Lost(LostReason::UnknownPosition);
            }
            self.collect(lane, -1, &mut missed);
        }
        missed.retain(|(seq, _)| *seq < until);
        missed.sort_unstable_by_key(|(seq, _)| *seq);
        Recovery::Complete(missed.into_iter().map(|(_, record)| Arc::clone(record)).collect())
    }

    /// Whether this worker has yet to reach `position`.
    pub(crate) fn is_ahead(&self, position: Position) -> bool {
        match self.partitions.get(&position.partition) {
            Some(reading) => position.offset > reading.applied,
            None => self.topics.values().any(|epoch| *epoch == position.partition.epoch),
        }
    }

    /// [`Window::recover`] for clients of the old protocol, which know one offset for each topic. Records that were
    /// applied from `live` on are left out.
    pub(crate) fn recover_offsets(
        &self,
        channel: &str,
        last_offset: &HashMap<String, i64>,
        live: Option<Seq>,
    ) -> Recovery {
        let lanes = self.channels.get(channel);
        let feeds = |partition: &Partition| lanes.is_none_or(|lanes| lanes.get(*partition).is_some());
        let mut since = Vec::new();
        for (topic, &offset) in last_offset {
            // An offset may be from before or after the topic was recreated.
            if self.recreated.contains(topic.as_str()) {
                return Recovery::Lost(LostReason::Recreated);
            }
            let mut of_topic = self.partitions.iter().filter(|(_, reading)| *reading.topic == **topic);
            let partitions: Vec<_> = of_topic.by_ref().map(|(partition, _)| *partition).collect();
            match partitions[..] {
                [partition] if feeds(&partition) => since.push(Position { partition, offset }),
                // One number is no position in several partitions.
                [_, _, ..] if partitions.iter().any(feeds) => return Recovery::Lost(LostReason::SeveralPartitions),
                _ => {}
            }
        }
        self.recover_until(channel, &since, live.unwrap_or(Seq::END))
    }

    /// Whether records of `channel` may have left the window in partitions without a position in `seen`. Stricter than
    /// [`Window::recover`]: for clients whose absence is longer than the window.
    pub(crate) fn may_owe_elsewhere(&self, channel: &str, seen: &[Position]) -> bool {
        let is_whole = |lane: &Lane| {
            lane.evicted.is_none() && self.partitions.get(&lane.partition).is_some_and(|reading| reading.begun == 0)
        };
        let mut lanes = self.channels.get(channel).into_iter().flat_map(Lanes::iter);
        lanes.any(|lane| !is_whole(lane) && seen.iter().all(|position| position.partition != lane.partition))
    }

    /// The last record of `channel`, while it is in the window.
    pub(crate) fn latest(&self, channel: &str) -> Option<Arc<Record>> {
        let tail = self.channels.get(channel)?.iter().map(|lane| lane.tail).max()?;
        self.entries.get(tail.index(self.base)?)?.record.clone()
    }

    /// The last position of `channel` in each partition that fed it, as far as this worker knows, whether or not that
    /// record is still in the window. Every later record of the channel is still to be applied.
    pub(crate) fn latest_positions(&self, channel: &str) -> Vec<Position> {
        let in_window = |lane: &Lane| Some(self.entries.get(lane.tail.index(self.base)?)?.record.as_ref()?.position);
        let gone = |lane: &Lane| Some(Position { partition: lane.partition, offset: lane.evicted?.offset });
        let lanes = self.channels.get(channel).into_iter().flat_map(Lanes::iter);
        let positions = lanes.filter_map(|lane| in_window(lane).or_else(|| gone(lane)));
        // No client can have seen an offset below zero.
        positions.filter(|position| position.offset >= 0).collect()
    }

    /// Adds the records of `lane` after the offset `after`. Returns when the client's own record was applied; `NONE`:
    /// unknown.
    fn collect<'w>(&'w self, lane: &Lane, after: i64, missed: &mut Vec<(Seq, &'w Arc<Record>)>) -> Seq {
        let mut seq = lane.tail;
        while let Some(entry) = seq.index(self.base).and_then(|at| self.entries.get(at)) {
            let Some(record) = &entry.record else { break };
            if record.position.offset <= after {
                return seq;
            }
            missed.push((seq, record));
            seq = entry.before;
        }
        match lane.evicted {
            Some(gone) if gone.offset == after && gone.seq > self.forgotten => gone.seq,
            _ => Seq::NONE,
        }
    }
}

/// The highest offset of each partition; `None` for an empty list.
fn newest_by_partition(since: &[Position]) -> Option<HashMap<Partition, i64>> {
    let mut seen = HashMap::with_capacity(since.len());
    for Position { partition, offset } in since {
        let newest = seen.entry(*partition).or_insert(*offset);
        *newest = (*newest).max(*offset);
    }
    (!seen.is_empty()).then_some(seen)
}
