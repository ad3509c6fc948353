//! The producer: passes records to librdkafka and counts the delivery reports of the brokers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use wscluster_kafka::{ConfigError, Connect, Context};

use super::input::{InputError, Record};

/// Publishing failed as a whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliverError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("failed to set up the Kafka client: {0}")]
    Client(#[source] KafkaError),
    #[error("failed to reach Kafka within {timeout:?}: {reason}")]
    Unreachable { timeout: Duration, reason: String },
    #[error("failed to publish: topic {0} does not exist; create it first")]
    NoTopic(String),
    #[error("failed to publish: access to topic {0} is denied; grant this user DESCRIBE and WRITE on it")]
    Forbidden(String),
    #[error("failed to publish: {0}")]
    Send(#[source] KafkaError),
}

/// The result of publishing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) published: u64,
    pub(crate) failed: u64,
    /// The first failure.
    pub(crate) error: Option<String>,
}

/// A producer for one topic. [`Outlet::close`] waits for the delivery reports.
pub(crate) struct Outlet {
    producer: ThreadedProducer<Deliveries>,
    deliveries: Arc<Counts>,
    topic: String,
    timeout: Duration,
    /// The error in the input.
    refused: Option<String>,
}

#[derive(Default)]
struct Counts {
    published: AtomicU64,
    failed: AtomicU64,
    error: Mutex<Option<String>>,
}

struct Deliveries {
    context: Context,
    counts: Arc<Counts>,
}

impl Outlet {
    pub(crate) fn open(connect: &Connect<'_>, topic: &str, timeout: Duration) -> Result<Self, DeliverError> {
        let (mut config, context) = connect.producer()?;
        config.set("message.timeout.ms", timeout.as_millis().max(1).to_string());
        let deliveries = Arc::new(Counts::default());
        let producer = config
            .create_with_context(Deliveries { context, counts: Arc::clone(&deliveries) })
            .map_err(DeliverError::Client)?;
        check_topic(&producer, topic, timeout)?;
        Ok(Self { producer, deliveries, topic: topic.to_owned(), timeout, refused: None })
    }

    /// Queues a record. Waits while the queue is full.
    pub(crate) fn send(&mut self, record: &Record) -> Result<(), DeliverError> {
        let mut outgoing: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic);
        if let Some(key) = &record.key {
            outgoing = outgoing.key(key);
        }
        if let Some(value) = &record.value {
            outgoing = outgoing.payload(value);
        }
        if !record.headers.is_empty() {
            let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
                headers.insert(Header { key: name, value: Some(value) })
            });
            outgoing = outgoing.headers(headers);
        }
        loop {
            match self.producer.send(outgoing) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    outgoing = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                // Only this record cannot be sent.
                Err((error @ KafkaError::MessageProduction(_), _)) => {
                    self.deliveries.fail(explain(&error));
                    return Ok(());
                }
                Err((error, _)) => return Err(DeliverError::Send(error)),
            }
        }
    }

    /// Counts `records` as failed: they were not sent, because the first of them could not be read.
    pub(super) fn reject(&mut self, error: &InputError, records: u64) {
        self.deliveries.failed.fetch_add(records, Ordering::Relaxed);
        self.refused = Some(format!("{error}; nothing from there on was published"));
    }

    /// Waits until every record is acknowledged or has failed.
    pub(crate) fn close(self) -> Outcome {
        // Each record has its own timeout; the last report may arrive a little later.
        let flushed = self.producer.flush(self.timeout + Duration::from_secs(5));
        let reason = self.producer.client().context().context.reason();
        let counts = &self.deliveries;
        if let Err(error) = flushed {
            counts.fail(error.to_string());
        }
        let mut error = counts.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Some(error), false) = (&mut error, reason.is_empty()) {
            *error += &format!(" ({reason})");
        }
        if let Some(refused) = self.refused {
            error = Some(error.map_or_else(String::new, |error| error + "; ") + &refused);
        }
        Outcome {
            published: counts.published.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            error,
        }
    }
}

/// Fails at once for a topic that is missing or forbidden. Otherwise every record would run into its timeout.
fn check_topic(producer: &ThreadedProducer<Deliveries>, topic: &str, timeout: Duration) -> Result<(), DeliverError> {
    let metadata = producer.client().fetch_metadata(Some(topic), timeout).map_err(|error| {
        let reason = producer.client().context().context.reason();
        DeliverError::Unreachable { timeout, reason: if reason.is_empty() { error.to_string() } else { reason } }
    })?;
    let error = metadata.topics().iter().find(|found| found.name() == topic).and_then(MetadataTopic::error);
    match error.map(RDKafkaErrorCode::from) {
        Some(RDKafkaErrorCode::UnknownTopicOrPartition) => Err(DeliverError::NoTopic(topic.to_owned())),
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => Err(DeliverError::Forbidden(topic.to_owned())),
        // Other errors may be temporary, and each record has its own timeout.
        _ => Ok(()),
    }
}

/// The text of an error, with a remedy if there is one.
fn explain(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => format!("{error}: raise max.message.bytes of the topic"),
        _ => error.to_string(),
    }
}

impl Counts {
    fn fail(&self, error: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, fac: &str, line: &str) {
        self.context.log(level, fac, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.context.generate_oauth_token(config)
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.counts.published.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => self.counts.fail(explain(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use wscluster_api::spec::{Kafka, Topic};
    use wscluster_kafka::embedded::Embedded;

    use super::*;

    fn publish(brokers: &str, topic: &str, records: u64) -> Outcome {
        let brokers = [brokers.to_owned()];
        let connect = Connect { spec: &Kafka::default(), brokers: &brokers, client: "test" };
        let mut outlet = Outlet::open(&connect, topic, Duration::from_secs(3)).unwrap();
        for n in 0..records {
            let value = Some(n.to_string().into_bytes());
            let headers = vec![("h".to_owned(), vec![0xff])];
            outlet.send(&Record { key: Some(b"BTC".to_vec()), value, headers }).unwrap();
        }
        outlet.close()
    }

    #[test]
    fn counts_what_the_broker_took() {
        let broker = Embedded::start(&[Topic::named("trades", "{key}")]).unwrap();
        let outcome = publish(broker.bootstrap(), "trades", 1_000);
        assert_eq!(outcome, Outcome { published: 1_000, failed: 0, error: None });
    }

    #[test]
    fn sends_a_record_of_any_size_that_the_topic_takes() {
        let broker = Embedded::start(&[Topic::named("trades", "{key}")]).unwrap();
        let brokers = [broker.bootstrap().to_owned()];
        let connect = Connect { spec: &Kafka::default(), brokers: &brokers, client: "test" };
        let mut outlet = Outlet::open(&connect, "trades", Duration::from_secs(30)).unwrap();
        outlet.send(&Record { value: Some(vec![b'x'; 10 << 20]), ..Record::default() }).unwrap();
        assert_eq!(outlet.close(), Outcome { published: 1, failed: 0, error: None });
    }

    fn refusal(brokers: &str, topic: &str) -> String {
        let brokers = [brokers.to_owned()];
        let connect = Connect { spec: &Kafka::default(), brokers: &brokers, client: "test" };
        Outlet::open(&connect, topic, Duration::from_secs(2)).err().unwrap().to_string()
    }

    #[test]
    fn says_that_a_topic_is_missing() {
        let broker = Embedded::start(&[]).unwrap();
        assert_eq!(
            refusal(broker.bootstrap(), "nowhere"),
            "failed to publish: topic nowhere does not exist; create it first"
        );
    }

    #[test]
    fn says_that_no_broker_answers() {
        let refusal = refusal("127.0.0.1:1", "trades");
        assert!(refusal.contains("Connection refused"), "{refusal}");
    }
}
