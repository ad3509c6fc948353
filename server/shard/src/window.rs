//! The recent past of one worker: exactly the records it has applied, until they are too old or too many.
//!
//! Pure: no clock, no socket, no Kafka. It answers what a client missed since the positions it names, and promises that
//! such an answer has no hole and nothing twice; where it cannot promise, it says so. Eviction is O(1) a record, an answer
//! costs what it holds. A channel that fell silent stays known by its last position (bounded), so that a client of a
//! quiet channel is told that it missed nothing although the record it saw last is gone.

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

pub use self::hold::Hold;
pub use self::lane::Seq;
use self::lane::{Evicted, Lanes};
pub use self::recover::Recovery;

/// The records a worker can replay. See the module's documentation.
#[derive(Debug)]
pub struct Window {
    limits: Limits,
    /// In the order of applying; the first one has number `base`.
    entries: VecDeque<Entry>,
    base: Seq,
    /// Bytes of the records in `entries`.
    bytes: u64,
    partitions: HashMap<Partition, Reading>,
    topics: HashMap<Arc<str>, Epoch>,
    /// Topics that were recreated, whose clients were told of it.
    reborn: HashSet<Arc<str>>,
    channels: HashMap<Arc<str>, Lanes>,
    /// Lanes that hold no record any more, the longest silent first; may hold stale items.
    quiet: VecDeque<Quiet>,
    /// In the order of making; may hold dead items.
    holds: VecDeque<Weak<Hold>>,
    /// Highest number of a record whose lane was forgotten.
    forgotten: Seq,
    /// Whether what is applied is live (rather than the past, read at start).
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
    /// Absent when the thread of its partition was lost.
    record: Option<Arc<Record>>,
    /// Unix milliseconds from which its age counts; never falls from one entry to the next.
    since_ms: i64,
    /// The entry before it in its lane.
    before: Seq,
}

/// How far a partition is read.
#[derive(Debug)]
struct Reading {
    /// Where reading began, or began anew after a loss.
    begun: i64,
    /// Number of the last entry before that.
    begun_at: Seq,
    /// Every record at or after it that was applied is here.
    floor: i64,
    /// Offset of the last record applied; one below where reading began before there was one.
    applied: i64,
    topic: Arc<str>,
}

#[derive(Debug)]
struct Quiet {
    channel: Arc<str>,
    partition: Partition,
    seq: Seq,
}

/// The thread of a partition, or of a topic, was lost: some clients must be told. See [`Window::touches`].
#[derive(Debug)]
pub struct Loss {
    channels: HashSet<Arc<str>>,
}

impl Window {
    /// Silent lanes remembered: about 10 MB at most.
    const QUIET_LANES: usize = 65_536;

    /// An empty window within the limits of `history`.
    pub fn new(history: &History) -> Self {
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
            reborn: HashSet::new(),
            channels: HashMap::new(),
            quiet: VecDeque::new(),
            holds: VecDeque::new(),
            forgotten: Seq::NONE,
            filled: false,
        }
    }

    /// Takes in what the source said, at `now_ms` (Unix milliseconds). Answers with what was lost, if anything was.
    pub fn apply(&mut self, update: &Update, now_ms: i64) -> Option<Loss> {
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

    /// Whether clients of `channel` may have missed something by `loss`: the channel was seen where the loss was, or
    /// nowhere yet.
    pub fn touches(&self, loss: &Loss, channel: &str) -> bool {
        loss.channels.contains(channel) || !self.channels.contains_key(channel)
    }

    /// Bytes it holds, bookkeeping included; records are shared with the other workers.
    pub fn bytes(&self) -> u64 {
        self.bytes + ((self.channels.len() + self.quiet.len()) * 120) as u64
    }

    /// Records it holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of the record that is applied next.
    pub fn next(&self) -> Seq {
        self.base.plus(self.entries.len())
    }

    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Offset up to which the past of `partition` is best read back: far enough into the window that it is still here when
    /// that is done.
    pub fn rejoin(&self, partition: Partition) -> Option<i64> {
        self.partitions.get(&partition).map(|reading| reading.floor + (reading.applied + 1 - reading.floor) / 2)
    }

    fn push(&mut self, record: &Arc<Record>, now_ms: i64) {
        let position = record.position;
        let Some(reading) = self.partitions.get_mut(&position.partition) else {
            debug_assert!(false, "a source begins a partition before its records");
            return;
        };
        reading.applied = position.offset;
        let seq = self.base.plus(self.entries.len());
        let newest_ms = self.entries.back().map_or(i64::MIN, |entry| entry.since_ms);
        // The past is as old as it says; what comes live counts from now, since a client's absence does too.
        let since_ms = if self.filled { now_ms } else { record.timestamp_ms.min(now_ms) }.max(newest_ms);

        let lanes = match self.channels.get_mut(&record.channel) {
            Some(lanes) => lanes,
            None => self.channels.entry(Arc::clone(&record.channel)).or_default(),
        };
        // A forgotten lane comes back with what its first record says about the one before.
        let evicted = record.prev.map(|prev| Evicted { offset: prev.offset, seq: self.forgotten });
        let lane = lanes.get_or_insert(position.partition, evicted);
        let before = std::mem::replace(&mut lane.tail, seq);
        self.bytes += weight(record);
        self.entries.push_back(Entry { record: Some(Arc::clone(record)), since_ms, before });
    }

    fn begin(&mut self, partition: Partition, topic: &Arc<str>, from: i64, lost: bool) -> Option<Loss> {
        let mut told = Loss { channels: HashSet::new() };
        let mut missed = lost;
        if self.topics.insert(Arc::clone(topic), partition.epoch).is_some_and(|epoch| epoch != partition.epoch) {
            missed = true;
            self.end_other_lives(topic, partition.epoch, &mut told);
            self.reborn.insert(Arc::clone(topic));
        } else if self.reborn.contains(topic) && !self.partitions.contains_key(&partition) {
            // The first partition of the new life told everybody.
            missed = false;
        }
        match self.partitions.get_mut(&partition) {
            Some(reading) if from <= reading.applied + 1 && !lost => return missed.then_some(told),
            Some(_) => {
                missed = true;
                self.lose(partition, from, &mut told);
            }
            // Nobody knows which channels it feeds: any that its topic does.
            None if missed => {
                let of_topic = |at: &Partition| self.partitions.get(at).is_some_and(|reading| reading.topic == *topic);
                let fed = |lanes: &Lanes| lanes.iter().any(|lane| of_topic(&lane.partition));
                told.channels
                    .extend(self.channels.iter().filter(|(_, lanes)| fed(lanes)).map(|(name, _)| Arc::clone(name)));
            }
            None => {}
        }
        let begun_at = self.base.plus(self.entries.len()).before();
        let reading = Reading { begun: from, begun_at, floor: from, applied: from - 1, topic: Arc::clone(topic) };
        self.partitions.insert(partition, reading);
        missed.then_some(told)
    }
}

/// What a record costs: its frame and what is kept beside it.
fn weight(record: &Record) -> u64 {
    (record.frame().len() + size_of::<Record>() + size_of::<Entry>() + 16) as u64
}
