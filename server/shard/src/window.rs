//! The window of a worker: the records that it has applied, until they are too old or too many.
//!
//! Pure: no clock, no socket, no Kafka. [`Window::recover`] returns what a client missed after its positions, without
//! a hole and without a repeat, or reports that it cannot. Eviction is O(1) for each record; the cost of an answer is
//! proportional to its size. The last position of a silent channel is remembered (up to a bound), so that its clients
//! recover although the last record has left the window.

mod evict;
mod hold;
mod lane;
mod recover;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};

use wscluster_api::spec::History;
use wscluster_kafka::feed::Update;
use wscluster_protocol::{Epoch, Partition, Record};

pub(crate) use self::hold::Hold;
pub(crate) use self::lane::Seq;
use self::lane::{Evicted, Lanes};
pub(crate) use self::recover::Recovery;

/// The records that a worker can replay. See the module's documentation.
#[derive(Debug)]
pub(crate) struct Window {
    limits: Limits,
    /// In the order in which they were applied; the first one has number `base`.
    entries: VecDeque<Entry>,
    base: Seq,
    /// Bytes of the records in `entries`.
    bytes: u64,
    partitions: HashMap<Partition, Reading>,
    topics: HashMap<Arc<str>, Epoch>,
    /// Topics that were recreated and whose clients got a `gap`.
    recreated: HashSet<Arc<str>>,
    channels: HashMap<Arc<str>, Lanes>,
    /// Lanes without a record in the window, the longest silent first; may contain stale items.
    quiet: VecDeque<Quiet>,
    /// In the order of creation; may contain dropped items.
    holds: VecDeque<Weak<Hold>>,
    /// The highest number of a record whose lane was forgotten.
    forgotten: Seq,
    /// Whether records are live, rather than history that is read at start.
    filled: bool,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    age_ms: i64,
    bytes: u64,
    quiet: usize,
}

#[derive(Debug)]
struct Entry {
    /// `None` after a loss in its partition.
    record: Option<Arc<Record>>,
    /// Unix milliseconds from which its age counts; never decreases from one entry to the next.
    since_ms: i64,
    /// The previous entry of its lane.
    before: Seq,
}

/// The state of a partition.
#[derive(Debug)]
struct Reading {
    /// Offset at which reading began, or began anew after a loss.
    begun: i64,
    /// Number of the last entry before it.
    begun_at: Seq,
    /// Every applied record at or after this offset is in the window.
    floor: i64,
    /// Offset of the last applied record; before the first one, one below `begun`.
    applied: i64,
    topic: Arc<str>,
}

#[derive(Debug)]
struct Quiet {
    channel: Arc<str>,
    partition: Partition,
    seq: Seq,
}

/// Records of a partition or topic were lost: clients of some channels must get a `gap`. See [`Window::touches`].
#[derive(Debug)]
pub(crate) struct Loss {
    channels: HashSet<Arc<str>>,
}

impl Window {
    /// Silent lanes that are remembered: about 10 MB at most.
    const QUIET_LANES: usize = 65_536;

    /// An empty window within the limits of `history`.
    pub(crate) fn new(history: &History) -> Self {
        let age_ms = i64::try_from(history.window.0.as_millis()).unwrap_or(i64::MAX);
        Self::with_limits(Limits { age_ms, bytes: history.max_bytes.0, quiet: Self::QUIET_LANES })
    }

    fn with_limits(limits: Limits) -> Self {
        Self {
            limits,
            entries: VecDeque::new(),
            base: Seq::FIRST,
            bytes: 0,
            partitions: HashMap::new(),
            topics: HashMap::new(),
            recreated: HashSet::new(),
            channels: HashMap::new(),
            quiet: VecDeque::new(),
            holds: VecDeque::new(),
            forgotten: Seq::NONE,
            filled: false,
        }
    }

    /// Applies an update at `now_ms` (Unix milliseconds). Returns the loss, if records were lost.
    pub(crate) fn apply(&mut self, update: &Update, now_ms: i64) -> Option<Loss> {
        match update {
            Update::Records(records) => {
                for record in records {
                    self.push(record, now_ms);
                    self.evict(now_ms);
                }
                None
            }
            Update::Begin { partition, topic, from, lost } => self.begin(*partition, topic, *from, *lost),
            Update::Filled => {
                self.filled = true;
                None
            }
        }
    }

    /// Whether clients of `channel` may have missed records in `loss`: the channel occurred where the loss was, or
    /// has not occurred anywhere yet.
    pub(crate) fn touches(&self, loss: &Loss, channel: &str) -> bool {
        loss.channels.contains(channel) || !self.channels.contains_key(channel)
    }

    /// Number of entries.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of the next record to be applied.
    pub(crate) fn next(&self) -> Seq {
        self.base.plus(self.entries.len())
    }

    /// Whether it has no entry.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The offset up to which a backfill of `partition` should read: the middle of the window, so that the window
    /// still has the following records when the backfill is done.
    pub(crate) fn rejoin(&self, partition: Partition) -> Option<i64> {
        self.partitions.get(&partition).map(|reading| reading.floor + (reading.applied + 1 - reading.floor) / 2)
    }

    fn push(&mut self, record: &Arc<Record>, now_ms: i64) {
        let position = record.position;
        let Some(reading) = self.partitions.get_mut(&position.partition) else {
            debug_assert!(false, "Begin precedes the records of a partition");
            return;
        };
        reading.applied = position.offset;
        let seq = self.base.plus(self.entries.len());
        let newest_ms = self.entries.back().map_or(i64::MIN, |entry| entry.since_ms);
        // History has the age of its timestamps. Live records age from now on, because a client's absence does too.
        let since_ms = if self.filled { now_ms } else { record.timestamp_ms.min(now_ms) }.max(newest_ms);

        let lanes = match self.channels.get_mut(&record.channel) {
            Some(lanes) => lanes,
            None => self.channels.entry(Arc::clone(&record.channel)).or_default(),
        };
        // A forgotten lane resumes with the `prev` of its next record.
        let evicted = record.prev.map(|prev| Evicted { offset: prev.offset, seq: self.forgotten });
        let lane = lanes.get_or_insert(position.partition, evicted);
        let before = std::mem::replace(&mut lane.tail, seq);
        self.bytes += weight(record);
        self.entries.push_back(Entry { record: Some(Arc::clone(record)), since_ms, before });
    }

    fn begin(&mut self, partition: Partition, topic: &Arc<str>, from: i64, lost: bool) -> Option<Loss> {
        let mut gone = Loss { channels: HashSet::new() };
        let mut missed = lost;
        if self.topics.insert(Arc::clone(topic), partition.epoch).is_some_and(|epoch| epoch != partition.epoch) {
            missed = true;
            self.end_other_incarnations(topic, partition.epoch, &mut gone);
            self.recreated.insert(Arc::clone(topic));
        } else if self.recreated.contains(topic) && !self.partitions.contains_key(&partition) {
            // The first partition of the new topic has reported the loss.
            missed = false;
        }
        match self.partitions.get_mut(&partition) {
            Some(reading) if from <= reading.applied + 1 && !lost => return missed.then_some(gone),
            Some(_) => {
                missed = true;
                self.lose(partition, from, &mut gone);
            }
            // It is unknown which channels this partition feeds: assume every channel of its topic.
            None if missed => {
                let of_topic = |at: &Partition| self.partitions.get(at).is_some_and(|reading| reading.topic == *topic);
                let fed = |lanes: &Lanes| lanes.iter().any(|lane| of_topic(&lane.partition));
                gone.channels
                    .extend(self.channels.iter().filter(|(_, lanes)| fed(lanes)).map(|(name, _)| Arc::clone(name)));
            }
            None => {}
        }
        let begun_at = self.base.plus(self.entries.len()).before();
        let reading = Reading { begun: from, begun_at, floor: from, applied: from - 1, topic: Arc::clone(topic) };
        self.partitions.insert(partition, reading);
        missed.then_some(gone)
    }
}

/// Bytes of a record: its frame and the bookkeeping.
fn weight(record: &Record) -> u64 {
    (record.frame().len() + size_of::<Record>() + size_of::<Entry>() + 16) as u64
}
