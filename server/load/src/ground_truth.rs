//! The records of the topic, read directly from Kafka, compared with the records that each client received.
//!
//! A client must receive a record if the record was published after the client's subscription was acknowledged and more
//! than the tail before the client left, or if it lies between two records that the client received.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::audit::{Track, fingerprint};

/// Unix time in nanoseconds.
pub(super) type Nanos = u64;

/// What one client received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClientLog {
    /// Indices of its channels.
    pub(super) channels: Vec<u32>,
    /// For each connection: the time of the acknowledgement of its subscription, and of its end.
    pub(super) sessions: Vec<(Nanos, Nanos)>,
    /// The audit of each channel and partition.
    pub(super) tracks: Vec<Track>,
}

/// Records of one channel in one partition.
#[derive(Clone, Debug, Default)]
struct Records {
    /// Offset and publish time, ascending by offset.
    records: Vec<(i64, Nanos)>,
    /// Sum of the fingerprints of all records before the same index.
    fingerprints: Vec<u64>,
}

/// The records of the topic during the run.
#[derive(Clone, Debug, Default)]
pub(super) struct GroundTruth {
    channels: BTreeMap<u32, BTreeMap<i32, Records>>,
    /// First known offset of each partition.
    from: BTreeMap<i32, i64>,
}

/// The result of the comparison, summed over clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Findings {
    /// Expected deliveries.
    pub(super) expected: u64,
    /// Expected deliveries that are missing and were not announced.
    pub(super) lost: u64,
    /// Missing deliveries that the server announced (`recovered: false`, `gap`); not part of `lost`.
    pub(super) declared_lost: u64,
    /// Channels of clients whose messages differ from the topic in a way that no hole explains.
    pub(super) mismatched: u64,
}

impl Records {
    fn between(&self, after: i64, before: i64) -> std::ops::Range<usize> {
        let start = self.records.partition_point(|(offset, _)| *offset <= after);
        let end = self.records.partition_point(|(offset, _)| *offset < before);
        start..end.max(start)
    }
}

impl GroundTruth {
    /// Records of `partition` are known from `offset` on.
    pub(super) fn begin(&mut self, partition: i32, offset: i64) {
        self.from.insert(partition, offset);
    }

    /// First known offset of `partition`.
    pub(super) fn starts_at(&self, partition: i32) -> Option<i64> {
        self.from.get(&partition).copied()
    }

    /// Adds a record. Within a partition, records must be added in the order of their offsets.
    pub(super) fn add(&mut self, channel: u32, partition: i32, offset: i64, published: Nanos) {
        let records = self.channels.entry(channel).or_default().entry(partition).or_default();
        let sum = records.fingerprints.last().copied().unwrap_or_default();
        if records.fingerprints.is_empty() {
            records.fingerprints.push(0);
        }
        records.records.push((offset, published));
        records.fingerprints.push(sum.wrapping_add(fingerprint(offset)));
    }

    /// Number of known records.
    pub(super) fn len(&self) -> u64 {
        self.channels.values().flat_map(BTreeMap::values).map(|records| records.records.len() as u64).sum()
    }

    /// Compares one client's log with the topic.
    pub(super) fn compare(&self, log: &ClientLog, tail: Duration) -> Findings {
        let tail = tail.as_nanos() as u64;
        let required = |published: Nanos| {
            log.sessions.iter().any(|(join, leave)| *join <= published && published.saturating_add(tail) < *leave)
        };
        let end = log.sessions.last().map_or(0, |(_, leave)| *leave);
        let mut findings = Findings::default();
        for channel in &log.channels {
            for (partition, records) in self.channels.get(channel).into_iter().flatten() {
                let mut tracks =
                    log.tracks.iter().filter(|t| t.channel == *channel && t.partition().number == *partition);
                match (tracks.next(), tracks.next()) {
                    (None, _) => {
                        let missed = records.records.iter().filter(|(_, at)| required(*at)).count() as u64;
                        findings.expected += missed;
                        findings.lost += missed;
                    }
                    (Some(track), None) => {
                        let from = self.from.get(partition).copied().unwrap_or_default();
                        compare_track(
                            records,
                            track,
                            from,
                            required,
                            |at| at.saturating_add(tail) < end,
                            &mut findings,
                        );
                    }
                    // The topic was recreated during the run, and these records do not identify the incarnation.
                    (Some(_), Some(_)) => findings.mismatched += 1,
                }
            }
        }
        findings
    }
}

fn compare_track(
    records: &Records,
    track: &Track,
    from: i64,
    in_session: impl Fn(Nanos) -> bool,
    before_end: impl Fn(Nanos) -> bool,
    findings: &mut Findings,
) {
    let head = &records.records[records.between(-1, track.first)];
    let head_lost = head.iter().filter(|(_, at)| in_session(*at)).count() as u64;
    let behind = &records.records[records.between(track.last, i64::MAX)];
    let tail_lost = behind.iter().filter(|(_, at)| before_end(*at)).count() as u64;
    let inner = records.between(track.first - 1, track.last + 1);
    let (mut lost, mut declared, mut holes_sum) = (0, 0, 0_u64);
    for hole in &track.holes {
        let inside = &records.records[records.between(hole.after, hole.before)];
        for (offset, _) in inside.iter().filter(|(offset, _)| !hole.filled.contains(offset)) {
            holes_sum = holes_sum.wrapping_add(fingerprint(*offset));
            if hole.declared { declared += 1 } else { lost += 1 }
        }
    }
    findings.expected += inner.len() as u64 + head_lost + tail_lost;
    findings.lost += lost + head_lost;
    findings.declared_lost += declared;
    if track.forgiven {
        findings.declared_lost += tail_lost;
    } else {
        findings.lost += tail_lost;
    }
    // Recovered records from before the first known offset cannot be compared.
    if track.first >= from {
        let expected = inner.len() as u64 - lost - declared;
        let sum = records
            .fingerprints
            .get(inner.end)
            .copied()
            .unwrap_or_default()
            .wrapping_sub(records.fingerprints.get(inner.start).copied().unwrap_or_default());
        let received = u64::from(track.received);
        findings.lost += expected.saturating_sub(received);
        if received >= expected && sum.wrapping_sub(holes_sum) != track.fingerprint {
            findings.mismatched += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wscluster_protocol::{Epoch, Partition};

    use super::super::audit::Verdict;
    use super::*;

    const TAIL: Duration = Duration::from_nanos(10);
    const PARTITION: Partition = Partition { epoch: Epoch(3), number: 0 };

    /// Offsets `0, 3, 6 …` of channel 0, published at 1000, 1001, …
    fn truth(len: i64) -> GroundTruth {
        let mut truth = GroundTruth::default();
        truth.begin(0, 0);
        (0..len).for_each(|i| truth.add(0, 0, i * 3, 1_000 + i as u64));
        truth
    }

    fn log(sessions: &[(Nanos, Nanos)], tracks: Vec<Track>) -> ClientLog {
        ClientLog { channels: vec![0], sessions: sessions.to_vec(), tracks }
    }

    fn receive(indices: &[i64]) -> (Track, Vec<Verdict>) {
        let mut track = Track::begin(0, PARTITION, indices[0] * 3);
        let verdicts = indices[1..].iter().map(|i| track.observe(i * 3, (*i > 0).then_some((i - 1) * 3))).collect();
        (track, verdicts)
    }

    #[test]
    fn requires_nothing_from_before_the_subscription_or_within_the_tail() {
        // Joined at 1005, left at 1050: 1005..1040 required, published records 0..100.
        let (track, _) = receive(&(5..40).collect::<Vec<_>>());
        let findings = truth(100).compare(&log(&[(1_005, 1_050)], vec![track]), TAIL);
        assert_eq!(findings, Findings { expected: 35, ..Findings::default() });
    }

    #[test]
    fn finds_a_missing_head_and_a_missing_tail() {
        let (track, _) = receive(&(7..38).collect::<Vec<_>>());
        let findings = truth(100).compare(&log(&[(1_005, 1_050)], vec![track]), TAIL);
        assert_eq!((findings.expected, findings.lost), (35, 4));
    }

    #[test]
    fn finds_all_missing_when_nothing_came_but_not_while_it_was_away() {
        let findings = truth(100).compare(&log(&[(1_000, 1_015), (1_050, 1_065)], vec![]), TAIL);
        assert_eq!((findings.expected, findings.lost), (10, 10));
    }

    #[test]
    fn requires_what_was_published_while_a_client_with_a_position_was_away() {
        let (track, _) = receive(&[0, 1, 2, 40]);
        let findings = truth(100).compare(&log(&[(1_000, 1_004), (1_030, 1_051)], vec![track]), TAIL);
        assert_eq!((findings.expected, findings.lost), (41, 37));
    }

    #[test]
    fn requires_what_follows_the_position_of_an_answer_also_while_the_client_was_away() {
        // Joined twice after record 4: received nothing the first time, then 8 and 9.
        let behind = || Track::behind(0, PARTITION, 12);
        let sessions = [(1_005, 1_006), (1_040, 1_050)];
        let findings = truth(10).compare(&log(&sessions, vec![behind()]), TAIL);
        assert_eq!(findings, Findings { expected: 5, lost: 5, ..Findings::default() });
        let mut track = behind();
        track.observe(24, Some(21));
        track.observe(27, Some(24));
        let findings = truth(10).compare(&log(&sessions, vec![track]), TAIL);
        assert_eq!(findings, Findings { expected: 5, lost: 3, ..Findings::default() });
        let mut track = behind();
        (5..10).for_each(|i| _ = track.observe(i * 3, Some((i - 1) * 3)));
        let findings = truth(10).compare(&log(&sessions, vec![track]), TAIL);
        assert_eq!(findings, Findings { expected: 5, ..Findings::default() });
        // What was announced is none of its loss.
        let mut track = behind();
        track.forgiven = true;
        assert!(track.skip_to(24));
        track.observe(27, Some(24));
        let findings = truth(10).compare(&log(&sessions, vec![track]), TAIL);
        assert_eq!(findings, Findings { expected: 5, declared_lost: 4, ..Findings::default() });
    }

    #[test]
    fn keeps_announced_losses_apart() {
        let mut track = Track::begin(0, PARTITION, 0);
        track.forgiven = true;
        track.observe(30, Some(27));
        let findings = truth(11).compare(&log(&[(1_000, 1_050)], vec![track]), TAIL);
        assert_eq!((findings.expected, findings.lost, findings.declared_lost), (11, 0, 9));
    }

    #[test]
    fn sees_through_a_chain_that_lies() {
        let mut track = Track::begin(0, PARTITION, 0);
        assert_eq!(track.observe(9, Some(0)), Verdict::InOrder);
        let findings = truth(4).compare(&log(&[(1_000, 1_050)], vec![track]), TAIL);
        assert_eq!((findings.expected, findings.lost), (4, 2));
        let mut track = Track::begin(0, PARTITION, 0);
        track.observe(4, Some(0));
        assert_eq!(truth(2).compare(&log(&[(1_000, 1_050)], vec![track]), TAIL).mismatched, 1);
    }

    proptest! {
        #[test]
        fn finds_exactly_the_injected_faults(len in 12_i64..200, faults in prop::collection::vec((1_i64..200, 0_u8..3), 0..12)) {
            // Faults at least three apart do not touch one another.
            let mut taken = std::collections::BTreeMap::new();
            for (at, fault) in faults {
                if at + 4 < len && (at - 3..=at + 3).all(|near| !taken.contains_key(&near)) {
                    taken.insert(at, fault);
                }
            }
            let mut sequence = Vec::new();
            for i in 0..len {
                match taken.get(&i) {
                    Some(1) => sequence.extend([i, i]), // duplicated
                    Some(_) => {} // lost, or late by two: below
                    None => sequence.push(i),
                }
                if taken.get(&(i - 2)) == Some(&2) {
                    sequence.push(i - 2);
                }
            }
            let count = |fault| taken.values().filter(|f| **f == fault).count() as u64;
            let (track, verdicts) = receive(&sequence);
            let seen = |verdict| verdicts.iter().filter(|v| **v == verdict).count() as u64;
            prop_assert_eq!(seen(Verdict::Duplicate), count(1));
            prop_assert_eq!(seen(Verdict::Reordered), count(2));
            prop_assert_eq!(seen(Verdict::Gap), count(0) + count(2));
            let findings = truth(len).compare(&log(&[(1_000, 10_000)], vec![track]), TAIL);
            prop_assert_eq!(findings, Findings { expected: len as u64, lost: count(0), ..Findings::default() });
        }
    }
}
