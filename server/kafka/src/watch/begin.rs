//! The offset at which reading of a partition begins: at start and for a late partition, the window's oldest record;
//! for a new partition, its first record; after a loss, the oldest record that is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use wscluster_protocol::Partition;

use super::super::assignment::{PartitionStart, epoch};
use super::super::backfill::Incarnation;
use super::super::encode::TopicMapping;
use super::super::identity::Described;
use super::super::offsets::{Ask, OffsetsError, ask};
use super::{Known, Watch};

impl Watch {
    /// The partitions of a topic that are new: all of them, added ones, or those of a recreated topic.
    pub(super) fn examine(
        &mut self,
        name: &str,
        entry: usize,
        found: &Described,
    ) -> Result<Vec<PartitionStart>, OffsetsError> {
        let recreated = self.known.get(name).is_some_and(|known| known.id != found.id);
        let mut known = self.known.get_mut(name).filter(|_| !recreated);
        if let Some(known) = &mut known {
            known.leaderless.clone_from(&found.leaderless);
        }
        let is_known = known.is_some();
        let begun =
            |number: &i32| known.as_ref().is_some_and(|k| k.next.get(*number as usize).is_some_and(Option::is_some));
        let can_begin = |number: &i32| !begun(number) && !found.leaderless.contains(number);
        let new: Vec<(&str, i32)> = (0..found.partitions).filter(can_begin).map(|number| (name, number)).collect();
        if new.is_empty() {
            return Ok(Vec::new());
        }
        if recreated {
            // Partitions of the deleted incarnation.
            self.history.retain(|start| *start.topic != *name);
            self.late.remove(name);
        }
        // The topic existed before, so clients may have missed records and get a `gap`.
        let late = self.began && self.late.contains(name);
        let until = ask(&*self.consumer, &new, Ask::End, Self::TIMEOUT)?;
        let from = if recreated || (self.began && !late) {
            // Every record is new to the clients.
            ask(&*self.consumer, &new, Ask::Beginning, Self::TIMEOUT)?
        } else {
            self.recent(&new, &until)?
        };
        let known = if is_known {
            self.known.get_mut(name).expect("found above")
        } else {
            let epoch = epoch(name, found.id.as_deref());
            if self.known.iter().any(|(other, known)| other != name && known.epoch == epoch) {
                return Err(OffsetsError::Epoch { topic: name.to_owned() });
            }
            let mapping = TopicMapping::new(name.into(), &self.entries[entry].topic, self.max_value_bytes)
                .map_err(|error| OffsetsError::Topic { topic: name.to_owned(), reason: error.to_string() })?;
            let leaderless = found.leaderless.clone();
            let known = Known { id: found.id.clone(), epoch, mapping: Arc::new(mapping), next: Vec::new(), leaderless };
            tracing::info!(topic = name, partitions = found.partitions, recreated, "reading topic");
            let incarnation =
                Incarnation { topic: name.into(), id: known.id.clone(), mapping: Arc::clone(&known.mapping) };
            self.shared.incarnations.begin(epoch, incarnation);
            self.known.insert(name.to_owned(), known);
            self.known.get_mut(name).expect("was inserted just now")
        };
        let topic: Arc<str> = name.into();
        known.next.resize(known.next.len().max(found.partitions as usize), None);
        if found.leaderless.is_empty() {
            self.late.remove(name);
        }
        let starts = new.iter().zip(from.into_iter().zip(until)).map(|(&(_, number), (from, until))| {
            let next = Arc::new(AtomicI64::new(from));
            known.next[number as usize] = Some(Arc::clone(&next));
            PartitionStart {
                topic: Arc::clone(&topic),
                id: known.id.clone(),
                mapping: Arc::clone(&known.mapping),
                partition: Partition { epoch: known.epoch, number },
                from,
                until,
                lost: recreated || late,
                next,
            }
        });
        Ok(starts.collect())
    }

    /// Offsets from which the window is filled.
    fn recent(&self, new: &[(&str, i32)], ends: &[i64]) -> Result<Vec<i64>, OffsetsError> {
        /// Records of each partition to read from a broker without offsets by time.
        const COUNTED_BACK: i64 = 20_000;
        if self.window.is_zero() {
            return Ok(ends.to_vec());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = i64::try_from(now.saturating_sub(self.window).as_millis()).unwrap_or(0);
        let by_time = ask(&*self.consumer, new, Ask::Time(at_ms), Self::TIMEOUT)?;
        let from: Vec<i64> = by_time.iter().zip(ends).map(|(at, end)| if *at < 0 { *end } else { *at }).collect();
        // The embedded broker has no offsets by time. The window drops records that are too old.
        if by_time.iter().all(|at| *at < 0) {
            let beginning = ask(&*self.consumer, new, Ask::Beginning, Self::TIMEOUT)?;
            let since_ever = ask(&*self.consumer, new, Ask::Time(0), Self::TIMEOUT)?;
            let records = beginning.iter().zip(ends).any(|(from, end)| from < end);
            if records && since_ever.iter().all(|at| *at < 0) {
                return Ok(beginning.iter().zip(ends).map(|(from, end)| (end - COUNTED_BACK).max(*from)).collect());
            }
        }
        Ok(from)
    }

    /// Partitions whose next offset is outside the log: they begin anew, with a loss.
    pub(super) fn overtaken(&self) -> Result<Vec<PartitionStart>, OffsetsError> {
        let all = self.partitions();
        let beginning = ask(&*self.consumer, &all, Ask::Beginning, Self::TIMEOUT)?;
        let end = ask(&*self.consumer, &all, Ask::End, Self::TIMEOUT)?;
        let mut starts = Vec::new();
        for (&(topic, number), (beginning, end)) in all.iter().zip(beginning.into_iter().zip(end)) {
            let begun = self.known.get(topic).and_then(|k| Some((k, k.next.get(number as usize)?.as_ref()?)));
            let Some((known, next)) = begun else { continue };
            let at = next.load(Ordering::Relaxed);
            if (beginning..=end).contains(&at) {
                continue;
            }
            let from = if at < beginning { beginning } else { end };
            tracing::warn!(
                topic,
                partition = number,
                next = at,
                from,
                "records were missed: the log no longer holds them"
            );
            starts.push(PartitionStart {
                topic: topic.into(),
                id: known.id.clone(),
                mapping: Arc::clone(&known.mapping),
                partition: Partition { epoch: known.epoch, number },
                from,
                until: end,
                lost: true,
                next: Arc::clone(next),
            });
        }
        Ok(starts)
    }
}
