//! The topic that feeds the channels. [`publisher`] writes to it on schedule. [`follower`] reads it directly from
//! Kafka, so the audit does not depend on the server under test.

mod follower;
mod publisher;
#[cfg(test)]
mod real;

use std::sync::Arc;
use std::time::Duration;

pub(super) use follower::Follower;
pub(super) use publisher::{Publisher, PublisherReport};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use wscluster_kafka::Context;

use super::channels::Template;
use super::ground_truth::Nanos;

/// Time limit for a request to the broker.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// A topic, its brokers and its channels.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    /// Bootstrap addresses.
    pub(super) brokers: String,
    /// Further librdkafka properties.
    pub(super) properties: Vec<(String, String)>,
    /// Name of the topic.
    pub(super) name: String,
    /// Maps a key to its channel.
    pub(super) template: Template,
    /// Channels of the run.
    pub(super) channels: Vec<String>,
}

/// The topic cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TopicError {
    /// A Kafka client failed.
    #[error("failed to {what} at {brokers}: {reason}")]
    Kafka {
        /// The operation.
        what: &'static str,
        /// Bootstrap addresses.
        brokers: String,
        /// The reason from librdkafka.
        reason: String,
    },
    /// The topic does not exist.
    #[error("failed to read topic {topic:?}: it has no partition at {brokers}; create it first, or check --topic")]
    NoTopic {
        /// Name of the topic.
        topic: String,
        /// Bootstrap addresses.
        brokers: String,
    },
    /// The topic was recreated during the run.
    #[error("failed to compare deliveries with topic {0:?}: it was deleted and created anew during the run")]
    Recreated(String),
    /// The topic was deleted during the run.
    #[error("failed to compare deliveries with topic {0:?}: it was deleted during the run")]
    Deleted(String),
    /// The reading thread panicked.
    #[error("failed to follow the topic: an internal fault ended its thread")]
    Fault,
    /// The end of the topic was not reached.
    #[error("failed to read the topic to its end within {ANSWER_TIME:?}: the audit cannot be completed")]
    Incomplete,
}

impl Topic {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "wscluster-load");
        self.properties.iter().for_each(|(name, value)| {
            config.set(name, value);
        });
        config
    }

    fn error(&self, what: &'static str, said: &Said) -> impl FnOnce(KafkaError) -> TopicError {
        let (brokers, said) = (self.brokers.clone(), said.clone());
        move |error| {
            let reason = Some(said.0.reason()).filter(|reason| !reason.is_empty());
            TopicError::Kafka { what, brokers, reason: reason.unwrap_or_else(|| error.to_string()) }
        }
    }
}

/// Collects the messages of librdkafka in a [`Context`], so that the reason is part of the one error instead of a log
/// line for each broker and attempt. Only logs and errors are redirected.
#[derive(Clone, Default)]
struct Said(Arc<Context>);

impl ClientContext for Said {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, line: &str) {
        self.0.log(level, fac, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ConsumerContext for Said {}

/// The value of a record: `{"sent_ns":…,"n":…,"pad":"…"}`. It has `size` bytes, or more if the first two fields need
/// them.
fn record(sent: Nanos, n: u64, size: usize) -> String {
    let head = format!(r#"{{"sent_ns":{sent},"n":{n},"pad":""#);
    let pad = size.saturating_sub(head.len() + 2);
    format!("{head}{}\"}}", "x".repeat(pad))
}

fn stamp(value: &[u8]) -> Option<Nanos> {
    #[derive(serde::Deserialize)]
    struct Stamp {
        sent_ns: Nanos,
    }
    serde_json::from_slice::<Stamp>(value).ok().map(|stamp| stamp.sent_ns)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rdkafka::error::RDKafkaErrorCode;
    use rdkafka::mocking::MockCluster;

    use super::*;

    #[test]
    fn writes_records_of_the_size_it_is_asked_for() {
        assert_eq!(record(1_700_000_000_000_000_000, 7, 128).len(), 128);
        assert_eq!(stamp(record(17, 7, 0).as_bytes()), Some(17));
        assert_eq!(stamp(b"[]"), None);
    }

    #[test]
    fn knows_every_record_it_published_and_only_those_of_its_channels() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 3, 1).unwrap();
        let channels: Vec<String> = (0..5).map(|i| format!("K{i}.trade")).collect();
        let topic = |channels: &[String]| Topic {
            brokers: cluster.bootstrap_servers(),
            properties: Vec::new(),
            name: "t".to_owned(),
            template: Template::parse("{key}.trade", "t").unwrap(),
            channels: channels.to_vec(),
        };
        let (all, one) = (topic(&channels).follow().unwrap(), topic(&channels[..1]).follow().unwrap());
        let publisher = topic(&channels).publish(500.0, 64).unwrap();
        publisher.begin();
        let deadline = Instant::now() + Duration::from_mins(1);
        while publisher.counts().0 < 50 {
            assert!(Instant::now() < deadline, "the broker acknowledges nothing");
            std::thread::sleep(Duration::from_millis(5));
        }
        let report = publisher.finish().unwrap();
        assert_eq!(report.failed, 0);
        assert_eq!(all.finish().unwrap().len(), report.published);
        assert_eq!(one.finish().unwrap().len(), report.published.div_ceil(5));
    }

    #[test]
    fn says_why_no_broker_answers() {
        let topic = Topic {
            brokers: "127.0.0.1:1".to_owned(),
            properties: Vec::new(),
            name: "t".to_owned(),
            template: Template::parse("{key}", "t").unwrap(),
            channels: Vec::new(),
        };
        let said = Said::default();
        let failed = || KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerTransportFailure);
        let told = |said: &Said| topic.error("ask for the topic", said)(failed()).to_string();
        assert_eq!(told(&said), format!("failed to ask for the topic at 127.0.0.1:1: {}", failed()));
        said.error(failed(), "Connection refused");
        assert_eq!(told(&said), "failed to ask for the topic at 127.0.0.1:1: Connection refused");
    }

    #[test]
    fn says_what_is_missing_when_there_is_no_such_topic() {
        let cluster = MockCluster::new(1).unwrap();
        let topic = Topic {
            brokers: cluster.bootstrap_servers(),
            properties: vec![("allow.auto.create.topics".to_owned(), "false".to_owned())],
            name: "absent".to_owned(),
            template: Template::parse("{key}", "absent").unwrap(),
            channels: Vec::new(),
        };
        let error = topic.follow().err().expect("there is no such topic");
        assert!(error.to_string().contains("\"absent\"") && error.to_string().contains("create it"), "{error}");
    }
}
