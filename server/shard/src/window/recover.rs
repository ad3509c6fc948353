//! What a client missed: the answer to `since`, and to the offsets of the old `reconnect`.

use std::collections::HashMap;
use std::sync::Arc;

use wscluster_protocol::{Partition, Position, Record};

use super::Window;
use super::lane::{Lane, Lanes, Seq};

/// The answer to a client that comes back.
#[derive(Clone, Debug)]
pub enum Recovery {
    /// Everything the client missed, in order; what the worker applies next follows without a hole.
    Complete(Vec<Arc<Record>>),
    /// The client saw this position elsewhere, and this worker is not there yet: ask again when it has applied more.
    Ahead(Position),
    /// Something may be missing; why: `too_old`, `epoch`, `unknown_position`, `several_partitions` or `recreated`.
    Lost(&'static str),
}

impl Window {
    /// The records of `channel` after `since`: the last position that the client saw in each partition.
    ///
    /// A partition without a position is one in which the client saw nothing: it gets all that is here from there.
    pub fn recover(&self, channel: &str, since: &[Position]) -> Recovery {
        self.recover_until(channel, since, Seq::END)
    }

    fn recover_until(&self, channel: &str, since: &[Position], until: Seq) -> Recovery {
        let Some(seen) = newest_by_partition(since) else { return Recovery::Lost("unknown_position") };
        let none = Lanes::default();
        let lanes = self.channels.get(channel).unwrap_or(&none);
        let mut ahead = None;
        for (&partition, &offset) in &seen {
            match self.partitions.get(&partition) {
                None if self.is_ahead(Position { partition, offset }) => {
                    ahead = Some((partition, offset));
                }
                None => return Recovery::Lost("epoch"),
                Some(reading) => {
                    let evicted = lanes.get(partition).and_then(|lane| lane.evicted);
                    if offset < reading.floor - 1 && evicted.is_none_or(|gone| offset < gone.offset) {
                        return Recovery::Lost("too_old");
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
                // What was applied before the client's newest record is older than the client's absence.
                Some(gone) => gone.seq >= newest,
                // The lane may have held records before this worker began to read, or where it lost the thread.
                None => self.partitions.get(&lane.partition).is_none_or(|at| at.begun > 0 && at.begun_at >= newest),
            };
            if may_be_owed {
                return Recovery::Lost("unknown_position");
            }
            self.collect(lane, -1, &mut missed);
        }
        missed.retain(|(seq, _)| *seq < until);
        missed.sort_unstable_by_key(|(seq, _)| *seq);
        Recovery::Complete(missed.into_iter().map(|(_, record)| Arc::clone(record)).collect())
    }

    /// Whether `position` is one that this worker has still to reach.
    pub fn is_ahead(&self, position: Position) -> bool {
        match self.partitions.get(&position.partition) {
            Some(reading) => position.offset > reading.applied,
            None => self.topics.values().any(|epoch| *epoch == position.partition.epoch),
        }
    }

    /// [`Window::recover`] for clients of the old protocol, who know one offset a topic, without what came from `live` on.
    pub fn recover_offsets(&self, channel: &str, last_offset: &HashMap<String, i64>, live: Option<Seq>) -> Recovery {
        let lanes = self.channels.get(channel);
        let feeds = |partition: &Partition| lanes.is_none_or(|lanes| lanes.get(*partition).is_some());
        let mut since = Vec::new();
        for (topic, &offset) in last_offset {
            // An offset does not say of which life it is.
            if self.reborn.contains(topic.as_str()) {
                return Recovery::Lost("recreated");
            }
            let mut of_topic = self.partitions.iter().filter(|(_, reading)| *reading.topic == **topic);
            let partitions: Vec<_> = of_topic.by_ref().map(|(partition, _)| *partition).collect();
            match partitions[..] {
                [partition] if feeds(&partition) => since.push(Position { partition, offset }),
                // One number cannot say where a client stands in several logs.
                [_, _, ..] if partitions.iter().any(feeds) => return Recovery::Lost("several_partitions"),
                _ => {}
            }
        }
        self.recover_until(channel, &since, live.unwrap_or(Seq::END))
    }

    /// Whether records of `channel` may be gone from partitions of which `seen` says nothing. Stricter than
    /// [`Window::recover`], for a client whose absence is longer than the window's memory.
    pub fn may_owe_elsewhere(&self, channel: &str, seen: &[Position]) -> bool {
        let is_whole = |lane: &Lane| {
            lane.evicted.is_none() && self.partitions.get(&lane.partition).is_some_and(|reading| reading.begun == 0)
        };
        let mut lanes = self.channels.get(channel).into_iter().flat_map(Lanes::iter);
        lanes.any(|lane| !is_whole(lane) && seen.iter().all(|position| position.partition != lane.partition))
    }

    /// The last record of `channel`, when it is still here.
    pub fn latest(&self, channel: &str) -> Option<Arc<Record>> {
        let tail = self.channels.get(channel)?.iter().map(|lane| lane.tail).max()?;
        self.entries.get(tail.index(self.base)?)?.record.clone()
    }

    /// Behind which positions all of `channel` is still to come: its last one in each partition that fed it, as far as
    /// this worker knows, also when that record is no longer here.
    pub fn latest_positions(&self, channel: &str) -> Vec<Position> {
        let in_window = |lane: &Lane| Some(self.entries.get(lane.tail.index(self.base)?)?.record.as_ref()?.position);
        let gone = |lane: &Lane| Some(Position { partition: lane.partition, offset: lane.evicted?.offset });
        let lanes = self.channels.get(channel).into_iter().flat_map(Lanes::iter);
        let positions = lanes.filter_map(|lane| in_window(lane).or_else(|| gone(lane)));
        // Before the first offset of a partition nothing can be seen.
        positions.filter(|position| position.offset >= 0).collect()
    }

    /// Adds the records of `lane` after `after`, and tells when the client's own record there was applied (`NONE`: not known).
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

/// The newest offset a partition; none for no position at all.
fn newest_by_partition(since: &[Position]) -> Option<HashMap<Partition, i64>> {
    let mut seen = HashMap::with_capacity(since.len());
    for Position { partition, offset } in since {
        let newest = seen.entry(*partition).or_insert(*offset);
        *newest = (*newest).max(*offset);
    }
    (!seen.is_empty()).then_some(seen)
}
