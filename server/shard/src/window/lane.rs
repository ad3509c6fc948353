//! Lanes: the records of one channel in one partition, linked from the newest to the oldest.
//!
//! Nearly every channel has one lane, because Kafka puts equal keys into one partition. A channel that several
//! partitions feed has one for each.

use wscluster_protocol::Partition;

/// Number of an entry, in the order in which entries were applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seq(u64);

impl Seq {
    /// Before every entry.
    pub(super) const NONE: Self = Self(0);
    /// Behind every entry.
    pub(super) const END: Self = Self(u64::MAX);
    /// The first entry.
    pub(super) const FIRST: Self = Self(1);

    pub(super) fn plus(self, entries: usize) -> Self {
        Self(self.0 + entries as u64)
    }

    pub(super) fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Index in a queue whose first entry is `base`; `None` for an evicted entry.
    pub(super) fn index(self, base: Self) -> Option<usize> {
        self.0.checked_sub(base.0).and_then(|index| usize::try_from(index).ok())
    }
}

/// The last record that left a lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evicted {
    pub(super) offset: i64,
    /// Its number; an upper bound if the lane was forgotten since.
    pub(super) seq: Seq,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) partition: Partition,
    /// The newest entry, which may be evicted.
    pub(super) tail: Seq,
    /// Every record of the lane after this one is in the window. `None`: unknown, only the floor of the partition
    /// applies.
    pub(super) evicted: Option<Evicted>,
}

/// The lanes of a channel, sorted by partition.
#[derive(Debug, Default)]
pub(super) struct Lanes(Vec<Lane>);

impl Lanes {
    pub(super) fn get(&self, partition: Partition) -> Option<&Lane> {
        self.find(partition).ok().and_then(|at| self.0.get(at))
    }

    pub(super) fn get_mut(&mut self, partition: Partition) -> Option<&mut Lane> {
        self.find(partition).ok().and_then(|at| self.0.get_mut(at))
    }

    /// The lane of `partition`; a new one starts with `evicted`.
    pub(super) fn get_or_insert(&mut self, partition: Partition, evicted: Option<Evicted>) -> &mut Lane {
        let at = match self.find(partition) {
            Ok(at) => at,
            Err(at) => {
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, Lane { partition, tail: Seq::NONE, evicted });
                at
            }
        };
        &mut self.0[at]
    }

    pub(super) fn remove_if(&mut self, mut gone: impl FnMut(&Lane) -> bool) {
        self.0.retain(|lane| !gone(lane));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, partition: Partition) -> Result<usize, usize> {
        self.0.binary_search_by_key(&partition, |lane| lane.partition)
    }
}
