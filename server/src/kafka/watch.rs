//! Which partitions there are, where to begin with each, and how far behind the reader is.
//!
//! A thread of its own, since its questions block: once a second it describes the topics (so that new ones, new partitions
//! and recreated topics are found), and asks for the ends of the logs. It reads no records. Topics that match a pattern are
//! looked for every ten seconds.

mod begin;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataBroker;
use regex::Regex;
use wscluster_api::spec::{Kafka, Topic, TopicSelector};

use super::behind::Behind;
use super::encode::Mold;
use super::identity::{DescribeError, describe};
use super::offsets::{Ask, OffsetsError, ask};
use super::track::Order;
use super::trouble::Kind;
use super::{Context, Options, Shared, SourceError};
use crate::feed::Epoch;

/// Why a look at the cluster failed.
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
    orders: mpsc::Sender<Order>,
    woken: mpsc::Receiver<()>,
    entries: Vec<Entry>,
    window: Duration,
    max_value_bytes: usize,
    /// Topics found by patterns, with their entry, and when they were last looked for.
    matched: Vec<(String, usize)>,
    listed: Option<Instant>,
    known: BTreeMap<String, Known>,
    behind: Behind,
    began: bool,
    /// The broker that is asked about topics; none when the last one failed.
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
    mold: Arc<Mold>,
    /// By partition number.
    next: Vec<Arc<AtomicI64>>,
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
        orders: mpsc::Sender<Order>,
        woken: mpsc::Receiver<()>,
    ) -> Result<Self, SourceError> {
        let mut entries = Vec::new();
        for topic in &spec.topics {
            // Says at once what would otherwise only be known when the topic is found.
            Mold::new(topic.name.as_str().into(), topic, 0)
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
            orders,
            woken,
            entries,
            window: spec.history.window.0,
            max_value_bytes: options.max_value_bytes,
            matched: Vec::new(),
            listed: None,
            known: BTreeMap::new(),
            behind: Behind::default(),
            began: false,
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
                    let reason = explain(&self.consumer.context().reason());
                    self.shared.troubles.set(Kind::Connection, format!("{error}{reason}"));
                    false
                }
            };
            self.shared.reachable.store(answered, Ordering::Relaxed);
            self.shared.metrics.connected.set(i64::from(answered));
            let every = if answered && self.began { Self::EVERY } else { Self::EVERY / 5 };
            if self.woken.recv_timeout(every).is_ok() {
                // Not more often than this, however often the reader stumbles.
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// One look at the cluster.
    fn look(&mut self) -> Result<(), LookError> {
        let wanted = self.wanted()?;
        let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
        let Some(first) = names.first() else {
            // No topic matches yet: the history is empty.
            if !std::mem::replace(&mut self.began, true) {
                let _ = self.orders.send(Order { starts: Vec::new() });
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
        let mut starts = Vec::new();
        for ((name, entry), answer) in wanted.iter().zip(described) {
            match answer {
                Ok(found) => match self.examine(name, *entry, &found) {
                    Ok(begin) => starts.extend(begin),
                    // The first order is the history, all of it: without this topic there is none yet.
                    Err(error) if !self.began => return Err(error.into()),
                    Err(error) => self.shared.troubles.flash(Kind::Topic(name.clone()), error.to_string()),
                },
                Err(code) => self.missing(name, code),
            }
        }
        let stuck = self.shared.out_of_range.swap(false, Ordering::Relaxed);
        if stuck {
            starts.extend(self.overtaken().inspect_err(|_| self.shared.out_of_range.store(true, Ordering::Relaxed))?);
        }
        // Also an order without partitions makes the reader assign anew, which is what gets a stuck one going.
        if !starts.is_empty() || stuck || !self.began {
            self.began = true;
            let _ = self.orders.send(Order { starts });
        }
        match self.measure() {
            // One partition without a leader is no reason to call the cluster away.
            Err(LookError::Offsets(error @ OffsetsError::Partition { .. })) => {
                self.shared.troubles.set(Kind::Partitions, error.to_string());
                Ok(())
            }
            other => {
                self.shared.troubles.clear(&Kind::Partitions);
                other
            }
        }
    }

    /// A broker to ask about topics: any, so that another try finds another one. Not the one that answered: over the bootstrap
    /// connection nobody has an id yet (−1), which would mean the controller.
    fn find_broker(&self, topic: &str) -> Result<i32, LookError> {
        let metadata = self.consumer.fetch_metadata(Some(topic), Self::TIMEOUT).map_err(LookError::List)?;
        let brokers = metadata.brokers();
        let at = rand::random_range(0..brokers.len().max(1));
        brokers.get(at).map(MetadataBroker::id).ok_or(LookError::NoBroker)
    }

    /// Names of all topics to read, each with its entry.
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
            // What was read once is read on: its partitions vanish only with the topic.
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

    fn missing(&self, name: &str, code: RDKafkaErrorCode) {
        use RDKafkaErrorCode as Code;
        let text = match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic => {
                format!("topic {name} does not exist; it is read as soon as it does")
            }
            Code::TopicAuthorizationFailed => {
                format!("no right to topic {name}; grant this user DESCRIBE and READ on it")
            }
            other => format!("failed to describe topic {name}: {other}"),
        };
        self.shared.troubles.set(Kind::Topic(name.to_owned()), text);
    }

    /// How far behind the reader is.
    fn measure(&mut self) -> Result<(), LookError> {
        let all = self.partitions();
        let ends = ask(&*self.consumer, &all, Ask::End, Self::TIMEOUT)?;
        let behind = |(&(topic, number), end): (&(&str, i32), i64)| {
            let next = self.known.get(topic)?.next.get(number as usize)?.load(Ordering::Relaxed);
            u64::try_from(end - next).ok()
        };
        let pending = self.shared.pending.load(Ordering::Relaxed);
        let end = ends.iter().filter_map(|&end| u64::try_from(end).ok()).sum();
        let lag = pending + all.iter().zip(ends).filter_map(behind).sum::<u64>();
        self.shared.lag.store(lag, Ordering::Relaxed);
        self.shared.metrics.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
        self.shared.metrics.partitions.set(i64::try_from(all.len()).unwrap_or(i64::MAX));
        let age = self.behind.observe(Instant::now(), end, lag);
        if age < Behind::TOLERATED {
            self.shared.troubles.clear(&Kind::Behind);
        } else if self.shared.filled.load(Ordering::Relaxed) {
            let tolerated = Behind::TOLERATED.as_secs();
            let text = format!("records wait for more than {tolerated} s: messages are late, none is dropped");
            self.shared.troubles.set(Kind::Behind, text);
        }
        Ok(())
    }

    fn partitions(&self) -> Vec<(&str, i32)> {
        self.known
            .iter()
            .flat_map(|(name, known)| (0..).zip(&known.next).map(|(number, _)| (name.as_str(), number)))
            .collect()
    }
}

/// What librdkafka said, to stand behind an error; with what it leaves out.
fn explain(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason if reason.contains("certificate verify failed") => format!(
            "; the broker's certificate is out of date, signed by an authority that is not trusted \
             (source.kafka.security.tls.ca), or made out to another name: {reason}"
        ),
        reason => format!("; {reason}"),
    }
}
