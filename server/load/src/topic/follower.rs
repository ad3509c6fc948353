//! Reads a topic from its current end to its end at the time of [`Follower::finish`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use wscluster_kafka::identity::describe;

use super::{ANSWER_TIME, Said, Topic, TopicError, stamp};
use crate::ground_truth::GroundTruth;

/// The topic's metadata.
struct Listing {
    /// Topic id; a recreated topic has another one.
    id: Option<String>,
    partitions: Vec<i32>,
}

/// A thread that reads the topic.
pub(crate) struct Follower {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<GroundTruth, TopicError>>,
}

impl Follower {
    /// Reads to the current end of the topic. Blocks.
    pub(crate) fn finish(self) -> Result<GroundTruth, TopicError> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(Err(TopicError::Fault))
    }
}

impl Topic {
    /// Starts to read at the current end of the topic.
    pub(crate) fn follow(&self) -> Result<Follower, TopicError> {
        let mut config = self.config();
        // librdkafka requires a group. It is not used: partitions are assigned, and offsets are not committed.
        config.set("group.id", "wscluster-load").set("enable.auto.commit", "false");
        config.set("fetch.wait.max.ms", "50").set("auto.offset.reset", "error");
        let said = Said::default();
        let consumer: BaseConsumer<Said> =
            config.create_with_context(said.clone()).map_err(self.error("create a consumer", &said))?;
        let Listing { id, partitions } = self.list(&consumer)?;
        if partitions.is_empty() {
            return Err(TopicError::NoTopic { topic: self.name.clone(), brokers: self.brokers.clone() });
        }
        let mut truth = GroundTruth::default();
        let mut assignment = TopicPartitionList::new();
        for partition in &partitions {
            let (_, high) = consumer
                .fetch_watermarks(&self.name, *partition, ANSWER_TIME)
                .map_err(self.error("ask for the end of the topic", &said))?;
            truth.begin(*partition, high);
            assignment
                .add_partition_offset(&self.name, *partition, Offset::Offset(high))
                .map_err(self.error("assign the topic", &said))?;
        }
        consumer.assign(&assignment).map_err(self.error("assign the topic", &said))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (topic, stopped) = (self.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || topic.read(&consumer, id.as_deref(), truth, &stopped));
        Ok(Follower { stop, thread })
    }

    /// The current metadata; without partitions if the topic does not exist.
    fn list(&self, consumer: &BaseConsumer<Said>) -> Result<Listing, TopicError> {
        let metadata = consumer.fetch_metadata(Some(&self.name), ANSWER_TIME).map_err(|error| {
            // librdkafka delivers its log lines and errors, which hold the reason, during a poll.
            drop(consumer.poll(Duration::from_millis(100)));
            self.error("ask for the topic", consumer.context())(error)
        })?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.name);
        let partitions =
            topic.iter().flat_map(|t| t.partitions()).map(rdkafka::metadata::MetadataPartition::id).collect();
        // Brokers before 2.8 have no topic ids; a recreated topic is not noticed there.
        let broker = metadata.brokers().first();
        let described = broker.and_then(|at| describe(consumer.client(), at.id(), &[&self.name], ANSWER_TIME).ok());
        let id = described.and_then(|mut topics| topics.pop()?.ok()?.id);
        Ok(Listing { id, partitions })
    }

    /// Returns the end offset of each partition. Assigns partitions that are not read yet, from their beginning.
    fn ends(
        &self,
        consumer: &BaseConsumer<Said>,
        before: Option<&str>,
        truth: &mut GroundTruth,
    ) -> Result<Vec<(i32, i64)>, TopicError> {
        let Listing { id, partitions } = self.list(consumer)?;
        if partitions.is_empty() {
            return Err(TopicError::Deleted(self.name.clone()));
        }
        if before.is_some() && id.is_some() && before != id.as_deref() {
            return Err(TopicError::Recreated(self.name.clone()));
        }
        let mut added = TopicPartitionList::new();
        let mut ends = Vec::new();
        for partition in partitions {
            let (_, end) = consumer
                .fetch_watermarks(&self.name, partition, ANSWER_TIME)
                .map_err(self.error("ask for the end of the topic", consumer.context()))?;
            if truth.starts_at(partition).is_none() {
                truth.begin(partition, 0);
                added
                    .add_partition_offset(&self.name, partition, Offset::Beginning)
                    .map_err(self.error("assign the topic", consumer.context()))?;
            }
            ends.push((partition, end));
        }
        if added.count() > 0 {
            consumer.incremental_assign(&added).map_err(self.error("assign the topic", consumer.context()))?;
        }
        Ok(ends)
    }

    fn read(
        &self,
        consumer: &BaseConsumer<Said>,
        id: Option<&str>,
        mut truth: GroundTruth,
        stop: &AtomicBool,
    ) -> Result<GroundTruth, TopicError> {
        let channels = self.channels.iter().map(String::as_str).zip(0_u32..).collect::<HashMap<_, _>>();
        let mut next = BTreeMap::<i32, i64>::new();
        let mut goal: Option<(Instant, Vec<(i32, i64)>)> = None;
        loop {
            if stop.load(Ordering::Relaxed) && goal.is_none() {
                let ends = self.ends(consumer, id, &mut truth)?;
                goal = Some((Instant::now() + ANSWER_TIME, ends));
            }
            if let Some((deadline, ends)) = &goal {
                let done = |(partition, end): &(i32, i64)| {
                    truth.starts_at(*partition).is_some_and(|from| from >= *end)
                        || next.get(partition).is_some_and(|next| next >= end)
                };
                if ends.iter().all(done) {
                    return Ok(truth);
                }
                if Instant::now() > *deadline {
                    return Err(TopicError::Incomplete);
                }
            }
            // Transport errors are temporary; a permanent error shows as `Incomplete`.
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else { continue };
            next.insert(message.partition(), message.offset() + 1);
            let key = message.key().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
            let channel = self.template.channel(key);
            if let Some(channel) = channels.get(channel.as_str()) {
                let published = message.payload().and_then(stamp).unwrap_or_else(|| {
                    message.timestamp().to_millis().and_then(|ms| u64::try_from(ms).ok()).unwrap_or_default()
                        * 1_000_000
                });
                truth.add(*channel, message.partition(), message.offset(), published);
            }
        }
    }
}
