//! Channel names as shared text, and the last position of each channel, from which `prev` of a message comes.
//!
//! Bounded: the channels that were silent for longest are forgotten, and their next message has no `prev`.

use std::collections::HashMap;
use std::sync::Arc;

use wscluster_protocol::{Partition, Position};

/// The channels seen last, in two generations: when the younger one is full, the older one is dropped.
#[derive(Debug)]
pub(super) struct Names {
    young: HashMap<Arc<str>, Last>,
    old: HashMap<Arc<str>, Last>,
    generation: usize,
}

/// Last offset of a channel in each partition that feeds it; nearly always one.
type Last = Vec<(Partition, i64)>;

impl Names {
    /// Channels of one generation. Up to twice as many are known, at about 150 bytes each.
    pub(super) const GENERATION: usize = 100_000;

    pub(super) fn new(generation: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation }
    }

    /// Moves `channel` to the position `at`. Returns its shared name and its previous position, unless that is below
    /// `begun`: then records were lost in between.
    pub(super) fn advance(&mut self, channel: &str, at: Position, begun: i64) -> (Arc<str>, Option<Position>) {
        if !self.young.contains_key(channel) {
            let (name, last) =
                self.old.remove_entry(channel).unwrap_or_else(|| (channel.into(), Vec::with_capacity(1)));
            if self.young.len() >= self.generation {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(name, last);
        }
        let Some((name, _)) = self.young.get_key_value(channel) else { return (channel.into(), None) };
        let name = Arc::clone(name);
        let Some(last) = self.young.get_mut(channel) else { return (name, None) };
        let Position { partition, offset } = at;
        if let Some((_, before)) = last.iter_mut().find(|(known, _)| *known == partition) {
            let prev = std::mem::replace(before, offset);
            return (name, (prev >= begun).then_some(Position { partition, offset: prev }));
        }
        // Partitions of deleted incarnations of the topic would accumulate here.
        if last.len() >= 256 {
            last.clear();
        }
        last.push((partition, offset));
        (name, None)
    }
}

#[cfg(test)]
mod tests {
    use wscluster_protocol::Epoch;

    use super::*;

    fn at(number: i32, offset: i64) -> Position {
        Position { partition: Partition { epoch: Epoch(1), number }, offset }
    }

    #[test]
    fn links_records_of_a_channel_within_a_partition() {
        let mut names = Names::new(10);
        assert_eq!(names.advance("a", at(0, 1), 0).1, None);
        assert_eq!(names.advance("a", at(1, 7), 0).1, None);
        assert_eq!(names.advance("a", at(0, 5), 0).1, Some(at(0, 1)));
        assert_eq!(names.advance("a", at(1, 9), 8).1, None, "lost the thread at 8");
    }

    #[test]
    fn forgets_the_channels_that_were_silent_for_longest() {
        let mut names = Names::new(2);
        for (offset, channel) in (0..).zip(["a", "b", "c", "a", "d", "e", "f"]) {
            let (_, prev) = names.advance(channel, at(0, offset), 0);
            assert_eq!(prev.map(|prev| prev.offset), (offset == 3).then_some(0), "{channel}");
        }
        assert!(names.young.len() + names.old.len() <= 4);
        assert_eq!(names.advance("b", at(0, 9), 0).1, None);
    }
}
