//! Checks the messages of one channel and partition at one client as they arrive. Each message names its position and
//! the position of its predecessor, so a hole is visible without the topic. [`super::ground_truth`] adds which records
//! were in the holes. Costs a few words of memory per client while nothing is missing.

use serde::{Deserialize, Serialize};
use wscluster_protocol::{Epoch, Partition};

/// How a message relates to the messages before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The first message, or the expected next one.
    InOrder,
    /// The message names a predecessor that was not received.
    Gap,
    /// The message follows a hole that the server announced (`recovered: false`, or a `gap` message).
    DeclaredGap,
    /// The message names no predecessor. Only the topic shows whether something is missing.
    Unlinked,
    /// The message names a predecessor that is older than a message already received.
    WrongLink,
    /// The message arrived after one of its successors.
    Reordered,
    /// The message was received before.
    Duplicate,
}

/// The offsets between two consecutive messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hole {
    /// Offset of the message before the hole.
    pub(super) after: i64,
    /// Offset of the message after the hole.
    pub(super) before: i64,
    /// The server announced it.
    pub(super) declared: bool,
    /// Offsets inside that arrived late.
    pub(super) filled: Vec<i64>,
}

/// The state of one partition of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Track {
    /// Index of the channel in the run's list.
    pub(super) channel: u32,
    epoch: u32,
    partition: i32,
    /// Smallest offset received.
    pub(super) first: i64,
    /// Largest offset received.
    pub(super) last: i64,
    /// Number of distinct offsets received.
    pub(super) received: u32,
    /// Sum of their [`fingerprint`]s.
    pub(super) fingerprint: u64,
    /// Holes, ascending.
    pub(super) holes: Vec<Hole>,
    /// The server announced that the next message does not follow `last`.
    pub(super) forgiven: bool,
}

/// A hash of an offset. Two sets of offsets with equal sums of hashes are equal, except by a collision.
pub(super) fn fingerprint(offset: i64) -> u64 {
    // The finaliser of SplitMix64.
    let mut x = (offset as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Track {
    /// Starts with the first message of `channel` from `partition`.
    pub(super) fn begin(channel: u32, partition: Partition, offset: i64) -> Self {
        Self {
            channel,
            epoch: partition.epoch.0,
            partition: partition.number,
            first: offset,
            last: offset,
            received: 1,
            fingerprint: fingerprint(offset),
            holes: Vec::new(),
            forgiven: false,
        }
    }

    /// Starts after `offset`, the position from an acknowledgement, without a message.
    pub(super) fn behind(channel: u32, partition: Partition, offset: i64) -> Self {
        Self { first: offset + 1, last: offset, received: 0, fingerprint: 0, ..Self::begin(channel, partition, offset) }
    }

    /// Partition and epoch.
    pub(super) fn partition(&self) -> Partition {
        Partition { epoch: Epoch(self.epoch), number: self.partition }
    }

    /// Records the next message in order of arrival; `prev` is the predecessor that it names.
    pub(super) fn observe(&mut self, offset: i64, prev: Option<i64>) -> Verdict {
        if offset <= self.last {
            return self.observe_old(offset);
        }
        let last = std::mem::replace(&mut self.last, offset);
        if self.received == 0 && self.holes.is_empty() && prev == Some(last) {
            self.first = offset;
        }
        self.count(offset);
        let declared = std::mem::take(&mut self.forgiven);
        if prev == Some(last) {
            return Verdict::InOrder;
        }
        self.holes.push(Hole { after: last, before: offset, declared, filled: Vec::new() });
        match prev {
            _ if declared => Verdict::DeclaredGap,
            Some(prev) if prev > last => Verdict::Gap,
            Some(_) => Verdict::WrongLink,
            None => Verdict::Unlinked,
        }
    }

    /// The server announced a hole and continues after `offset`. Returns whether that skips offsets.
    pub(super) fn skip_to(&mut self, offset: i64) -> bool {
        if self.forgiven && offset < self.last && self.received == 0 {
            // This shard is behind the previous one. After a message was received, repeats count as duplicates instead.
            (self.first, self.last, self.forgiven) = (offset + 1, offset, false);
            self.holes.clear();
        }
        if !self.forgiven || offset < self.last {
            return false;
        }
        self.forgiven = false;
        let last = std::mem::replace(&mut self.last, offset);
        if last < offset {
            self.holes.push(Hole { after: last, before: offset + 1, declared: true, filled: Vec::new() });
        }
        last < offset
    }

    fn observe_old(&mut self, offset: i64) -> Verdict {
        if offset < self.first {
            let before = std::mem::replace(&mut self.first, offset);
            self.holes.insert(0, Hole { after: offset, before, declared: false, filled: Vec::new() });
            self.count(offset);
            return Verdict::Reordered;
        }
        let hole = self.holes.iter_mut().find(|hole| hole.after < offset && offset < hole.before);
        match hole {
            Some(hole) if !hole.filled.contains(&offset) => {
                hole.filled.push(offset);
                self.count(offset);
                Verdict::Reordered
            }
            _ => Verdict::Duplicate,
        }
    }

    fn count(&mut self, offset: i64) {
        self.received = self.received.saturating_add(1);
        self.fingerprint = self.fingerprint.wrapping_add(fingerprint(offset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITION: Partition = Partition { epoch: Epoch(1), number: 0 };

    fn verdicts(messages: &[(i64, Option<i64>)]) -> Vec<Verdict> {
        let mut track = Track::begin(0, PARTITION, 10);
        messages.iter().map(|(offset, prev)| track.observe(*offset, *prev)).collect()
    }

    #[test]
    fn follows_the_chain_over_foreign_offsets() {
        assert_eq!(verdicts(&[(13, Some(10)), (14, Some(13))]), [Verdict::InOrder, Verdict::InOrder]);
    }

    #[test]
    fn sees_a_gap_then_its_late_filler_then_a_duplicate() {
        let seen = verdicts(&[(13, Some(12)), (12, Some(10)), (12, Some(10)), (13, Some(12)), (10, None)]);
        assert_eq!(seen[..2], [Verdict::Gap, Verdict::Reordered]);
        assert_eq!(seen[2..], [Verdict::Duplicate; 3]);
    }

    #[test]
    fn forgives_what_the_server_announced_but_only_once() {
        let mut track = Track::begin(0, PARTITION, 10);
        track.forgiven = true;
        assert_eq!(track.observe(20, Some(19)), Verdict::DeclaredGap);
        assert_eq!(track.observe(22, Some(21)), Verdict::Gap);
        assert!(track.holes[0].declared && !track.holes[1].declared);
    }

    #[test]
    fn links_the_first_message_to_where_the_channel_stood() {
        let mut track = Track::behind(0, PARTITION, 10);
        assert_eq!(track.observe(13, Some(10)), Verdict::InOrder);
        assert_eq!((track.first, track.received), (13, 1));
        let mut track = Track::behind(0, PARTITION, 10);
        assert_eq!(track.observe(13, Some(12)), Verdict::Gap);
        track.forgiven = true;
        assert!(track.skip_to(20) && !track.skip_to(20));
        assert_eq!(track.observe(21, Some(20)), Verdict::InOrder);
        assert_eq!(track.holes.iter().map(|hole| hole.declared).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn begins_anew_on_a_shard_that_is_behind() {
        let mut track = Track::behind(0, PARTITION, 10);
        track.forgiven = true;
        assert!(!track.skip_to(4));
        assert_eq!(track.observe(7, Some(4)), Verdict::InOrder);
        track.forgiven = true;
        assert!(!track.skip_to(4));
        assert_eq!(track.observe(7, Some(4)), Verdict::Duplicate);
    }

    #[test]
    fn does_not_trust_a_link_to_before_what_it_has() {
        assert_eq!(verdicts(&[(12, Some(9)), (14, None)]), [Verdict::WrongLink, Verdict::Unlinked]);
    }
}
