//! The watch thread: which partitions there are, where reading of each begins, and how far the reader lags.
//!
//! It has its own thread because its requests block. Each second it describes the topics, which finds new topics, new
//! partitions and recreated topics, and asks for the end offsets. It reads no records. Topics that match a pattern
//! are listed every ten seconds.

mod begin;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataBroker;
use regex::Regex;
use wscluster_api::spec::{Kafka, Topic, TopicSelector};
use wscluster_protocol::Epoch;

use super::assignment::{Assignment, PartitionStart};
use super::encode::TopicMapping;
use super::identity::{DescribeError, Described, describe};
use super::lag_age::LagAge;
use super::offsets::{Ask, OffsetsError, ask};
use super::trouble::{Kind, Trouble};
use super::{Context, Options, Shared, SourceError};

/// A look at the cluster failed.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Describe(#[from] DescribeError),
    #[error("failed to ask for topics: {0}")]
    List(#[source] KafkaError),
    #[error("failed to ask for topics: the cluster names no broker")]
    NoBroker,
    #[error(transparent)]
    Offsets(#[from] OffsetsError),
}

/// The watch over one cluster. See the module's documentation.
pub(super) struct Watch {
    consumer: Arc<BaseConsumer<Context>>,
    shared: Arc<Shared>,
    assignments: mpsc::Sender<Assignment>,
    woken: mpsc::Receiver<()>,
    entries: Vec<Entry>,
    window: Duration,
    max_value_bytes: usize,
    /// Topics found by patterns, with their entry, and when topics were last listed.
    matched: Vec<(String, usize)>,
    listed: Option<Instant>,
    known: BTreeMap<String, Known>,
    lag_age: LagAge,
    began: bool,
    /// The partitions located so far, until the first assignment.
    history: Vec<PartitionStart>,
    /// Since when the cluster answers, before the first assignment.
    answers: Option<Instant>,
    patience: Duration,
    /// Topics that existed when the shard began to serve, or were created since, and could not be read.
    late: BTreeSet<String>,
    /// The broker that is asked about topics; `None` after it failed.
    broker: Option<i32>,
}

struct Entry {
    topic: Topic,
    pattern: Option<Regex>,
}

/// A topic that is read.
struct Known {
    id: Option<String>,
    epoch: Epoch,
    mapping: Arc<TopicMapping>,
    /// The next offset, by partition number; `None` where reading has not begun.
    next: Vec<Option<Arc<AtomicI64>>>,
    /// Partitions without a leader, by number.
    leaderless: Vec<i32>,
}

impl Watch {
    const EVERY: Duration = Duration::from_secs(1);
    const LIST_EVERY: Duration = Duration::from_secs(10);
    const TIMEOUT: Duration = Duration::from_secs(5);

    pub(super) fn new(
        spec: &Kafka,
        options: &Options,
        consumer: Arc<BaseConsumer<Context>>,
        shared: Arc<Shared>,
        assignments: mpsc::Sender<Assignment>,
        woken: mpsc::Receiver<()>,
    ) -> Result<Self, SourceError> {
        let mut entries = Vec::new();
        for topic in &spec.topics {
            // Reports an invalid template at start, not when the topic is found.
            TopicMapping::new(topic.name.as_str().into(), topic, 0)
                .map_err(|source| SourceError::Channel { channel: topic.channel.clone(), source })?;
            let pattern = match topic.selector() {
                TopicSelector::Name(_) => None,
                TopicSelector::Pattern(pattern) => Some(Regex::new(&format!("^(?:{pattern})$")).map_err(|source| {
                    SourceError::Pattern { pattern: pattern.to_owned(), source: Box::new(source) }
                })?),
            };
            entries.push(Entry { topic: topic.clone(), pattern });
        }
        Ok(Self {
            consumer,
            shared,
            assignments,
            woken,
            entries,
            window: spec.history.window.0,
            max_value_bytes: options.max_value_bytes,
            matched: Vec::new(),
            listed: None,
            known: BTreeMap::new(),
            lag_age: LagAge::default(),
            began: false,
            history: Vec::new(),
            answers: None,
            patience: options.patience,
            late: BTreeSet::new(),
            broker: None,
        })
    }

    pub(super) fn run(mut self) {
        while !self.shared.stopped() {
            let answered = match self.look() {
                Ok(()) => {
                    self.shared.troubles.clear(&Kind::Connection);
                    true
                }
                Err(error) => {
                    let reason = self.consumer.context().reason();
                    self.shared.troubles.report(&Trouble::Connection { error: &error, reason: &reason });
                    self.answers = None;
                    false
                }
            };
            self.shared.reachable.store(answered, Ordering::Relaxed);
            self.shared.metrics.connected.set(i64::from(answered));
            let every = if answered && self.began { Self::EVERY } else { Self::EVERY / 5 };
            if self.woken.recv_timeout(every).is_ok() {
                // Limits how often errors of the reader wake this thread.
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// One look at the cluster.
    fn look(&mut self) -> Result<(), LookError> {
        let wanted = self.wanted()?;
        let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
        let Some(first) = names.first() else {
            // No topic matches: the history is empty.
            if !std::mem::replace(&mut self.began, true) {
                let _ = self.assignments.send(Assignment { starts: Vec::new() });
            }
            return Ok(());
        };
        let broker = match self.broker {
            Some(broker) => broker,
            None => self.find_broker(first)?,
        };
        self.broker = None;
        let described = describe(self.consumer.client(), broker, &names, Self::TIMEOUT)?;
        self.broker = Some(broker);
        let (mut starts, mut open) = (Vec::new(), Vec::new());
        let mut leaderless = Vec::new();
        for ((name, entry), answer) in wanted.iter().zip(described) {
            match answer {
                Ok(found) => {
                    leaderless.extend(found.leaderless.iter().map(|number| format!("{name} [{number}]")));
                    if self.take_up(name, *entry, &found, &mut starts) {
                        open.push(name.clone());
                    }
                }
                Err(code) if self.missing(name, code) => open.push(name.clone()),
                Err(_) => {}
            }
        }
        self.report_leaderless(&leaderless);
        if !self.began {
            // The first assignment is the history. It waits for partitions that cannot be read, up to `patience`.
            self.history.append(&mut starts);
            let since = *self.answers.get_or_insert_with(Instant::now);
            if !open.is_empty() && since.elapsed() < self.patience {
                return Ok(());
            }
            self.late.extend(open);
            starts = std::mem::take(&mut self.history);
        }
        let stuck = self.shared.out_of_range.swap(false, Ordering::Relaxed);
        if stuck {
            starts.extend(self.overtaken().inspect_err(|_| self.shared.out_of_range.store(true, Ordering::Relaxed))?);
        }
        // An assignment without partitions also makes the reader assign anew, which restarts a stuck partition.
        if !starts.is_empty() || stuck || !self.began {
            self.began = true;
            let _ = self.assignments.send(Assignment { starts });
        }
        match self.measure() {
            // One partition without a leader does not make the cluster unreachable.
            Err(LookError::Offsets(error @ OffsetsError::Partition { .. })) => {
                self.shared.troubles.report(&Trouble::Partitions(error));
                Ok(())
            }
            other => {
                self.shared.troubles.clear(&Kind::Partitions);
                other
            }
        }
    }

    /// A random broker to ask about topics, so that a retry may reach another one. The broker that answered over the
    /// bootstrap connection has no id yet (−1), which would select the controller.
    fn find_broker(&self, topic: &str) -> Result<i32, LookError> {
        let metadata = self.consumer.fetch_metadata(Some(topic), Self::TIMEOUT).map_err(LookError::List)?;
        let brokers = metadata.brokers();
        let at = rand::random_range(0..brokers.len().max(1));
        brokers.get(at).map(MetadataBroker::id).ok_or(LookError::NoBroker)
    }

    /// The names of all topics to read, each with its entry of the manifest.
    fn wanted(&mut self) -> Result<Vec<(String, usize)>, LookError> {
        let patterns = self.entries.iter().any(|entry| entry.pattern.is_some());
        if patterns && self.listed.is_none_or(|at| at.elapsed() >= Self::LIST_EVERY) {
            let metadata = self.consumer.fetch_metadata(None, Self::TIMEOUT).map_err(LookError::List)?;
            let matching = |name: &str| {
                self.entries.iter().position(|entry| match &entry.pattern {
                    Some(pattern) => !name.starts_with("__") && pattern.is_match(name),
                    None => entry.topic.name == name,
                })
            };
            // A topic that matched once is read until it is deleted.
            for topic in metadata.topics() {
                let name = topic.name();
                if let Some(entry) = matching(name)
                    && self.entries[entry].pattern.is_some()
                    && !self.matched.iter().any(|(known, _)| known == name)
                {
                    self.matched.push((name.to_owned(), entry));
                }
            }
            self.matched.retain(|(name, _)| metadata.topics().iter().any(|topic| topic.name() == name));
            self.listed = Some(Instant::now());
        }
        let named = self.entries.iter().enumerate().filter(|(_, entry)| entry.pattern.is_none());
        Ok(named.map(|(at, entry)| (entry.topic.name.clone(), at)).chain(self.matched.iter().cloned()).collect())
    }

    /// Begins the new partitions of a topic and reports its troubles. Returns whether more of it may become readable
    /// soon.
    fn take_up(&mut self, name: &str, entry: usize, found: &Described, starts: &mut Vec<PartitionStart>) -> bool {
        if !found.readable {
            self.shared.troubles.report(&Trouble::TopicUnreadable { topic: name });
            // A topic that is read already continues by itself.
            if !self.known.contains_key(name) {
                self.late.insert(name.to_owned());
            }
            return false;
        }
        match self.examine(name, entry, found) {
            Ok(begin) => {
                self.shared.troubles.clear(&Kind::Topic(name.to_owned()));
                starts.extend(begin);
                !found.leaderless.is_empty()
            }
            Err(error) => {
                self.shared.troubles.report(&Trouble::TopicOffsets { topic: name, error });
                true
            }
        }
    }

    /// Reports why a topic is not described. Returns whether that may pass soon.
    fn missing(&mut self, name: &str, code: RDKafkaErrorCode) -> bool {
        use RDKafkaErrorCode as Code;
        let (trouble, passes) = match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic => (Trouble::TopicMissing { topic: name }, false),
            Code::TopicAuthorizationFailed => {
                if !self.known.contains_key(name) {
                    self.late.insert(name.to_owned());
                }
                (Trouble::TopicForbidden { topic: name }, false)
            }
            code => (Trouble::TopicUnknown { topic: name, code }, true),
        };
        self.shared.troubles.report(&trouble);
        passes
    }

    fn report_leaderless(&self, partitions: &[String]) {
        if partitions.is_empty() {
            self.shared.troubles.clear(&Kind::Leaderless);
        } else {
            self.shared.troubles.report(&Trouble::Leaderless { partitions });
        }
    }

    /// Measures the lag of the reader.
    fn measure(&mut self) -> Result<(), LookError> {
        let all = self.partitions();
        let ends = ask(&*self.consumer, &all, Ask::End, Self::TIMEOUT)?;
        let behind = |(&(topic, number), end): (&(&str, i32), i64)| {
            let next = self.known.get(topic)?.next.get(number as usize)?.as_ref()?.load(Ordering::Relaxed);
            u64::try_from(end - next).ok()
        };
        let pending = self.shared.pending.load(Ordering::Relaxed);
        let end = ends.iter().filter_map(|&end| u64::try_from(end).ok()).sum();
        let lag = pending + all.iter().zip(ends).filter_map(behind).sum::<u64>();
        self.shared.lag.store(lag, Ordering::Relaxed);
        self.shared.metrics.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
        self.shared.metrics.partitions.set(i64::try_from(all.len()).unwrap_or(i64::MAX));
        let age = self.lag_age.observe(Instant::now(), end, lag);
        if age < LagAge::TOLERATED {
            self.shared.troubles.clear(&Kind::Behind);
        } else if self.shared.filled.load(Ordering::Relaxed) {
            self.shared.troubles.report(&Trouble::Behind);
        }
        Ok(())
    }

    /// The partitions that are read and have a leader. One without a leader would delay every request about the
    /// others.
    fn partitions(&self) -> Vec<(&str, i32)> {
        self.known
            .iter()
            .flat_map(|(name, known)| {
                let begun = (0..).zip(&known.next).filter(|(_, next)| next.is_some()).map(|(number, _)| number);
                begun.filter(|number| !known.leaderless.contains(number)).map(|number| (name.as_str(), number))
            })
            .collect()
    }
}
