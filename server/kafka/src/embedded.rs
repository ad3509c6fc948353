//! The embedded broker of `wscluster local`: librdkafka's in-process cluster, on loopback, in memory only.
//!
//! It speaks Kafka's protocol to any producer and consumer. It is bounded: each partition keeps its newest 5 MiB (or
//! 100,000 batches) and drops the rest, and everything is gone when the process ends. It does not know offsets by time,
//! transactions beyond their calls, security, or real replication. Not for production.

use std::sync::mpsc;
use std::thread;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use wscluster_api::spec::{Topic, TopicSelector};

/// A running broker; ends when dropped.
#[derive(Debug)]
pub struct Embedded {
    bootstrap: String,
    commands: mpsc::Sender<Command>,
}

enum Command {
    Create { topic: String, partitions: u32, done: mpsc::Sender<Result<(), KafkaError>> },
    Up { up: bool, done: mpsc::Sender<Result<(), KafkaError>> },
    Lead { topic: String, partition: i32, led: bool, done: mpsc::Sender<Result<(), KafkaError>> },
    Fail { api: rdkafka::types::RDKafkaApiKey, errors: Vec<rdkafka::types::RDKafkaRespErr> },
}

/// Why there is no embedded broker.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// librdkafka.
    #[error("failed to start the embedded broker: {0}")]
    Start(#[source] KafkaError),
    /// The thread.
    #[error("failed to start the embedded broker: {0}")]
    Thread(#[from] std::io::Error),
    /// A topic.
    #[error("failed to create topic {topic} on the embedded broker: {source}")]
    Topic {
        /// Its name.
        topic: String,
        /// Why.
        source: KafkaError,
    },
    /// The broker's thread ended.
    #[error("the embedded broker has ended")]
    Ended,
}

impl Embedded {
    /// Starts one broker on a free port of 127.0.0.1 and creates the topics that have a name.
    pub fn start(topics: &[Topic]) -> Result<Self, EmbeddedError> {
        let (commands, inbox) = mpsc::channel();
        let (started, start) = mpsc::channel();
        // The cluster is bound to its thread: it holds a pointer that must not be shared.
        thread::Builder::new().name("embedded-kafka".into()).spawn(move || run(&started, &inbox))?;
        let bootstrap = start.recv().map_err(|_| EmbeddedError::Ended)?.map_err(EmbeddedError::Start)?;
        let broker = Self { bootstrap, commands };
        for topic in topics {
            if let TopicSelector::Name(name) = topic.selector() {
                broker.create_topic(name, topic.partitions)?;
            }
        }
        Ok(broker)
    }

    /// Its address, `host:port`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Creates a topic; one that is there stays as it is.
    pub fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), EmbeddedError> {
        match self.ask(|done| Command::Create { topic: topic.to_owned(), partitions, done })? {
            Err(source) if source.rdkafka_error_code() != Some(RDKafkaErrorCode::TopicAlreadyExists) => {
                Err(EmbeddedError::Topic { topic: topic.to_owned(), source })
            }
            _ => Ok(()),
        }
    }

    /// Takes the broker from the network, or brings it back with all it held. For tests.
    pub fn set_up(&self, up: bool) -> Result<(), EmbeddedError> {
        self.ask(|done| Command::Up { up, done })?.map_err(EmbeddedError::Start)
    }

    /// Takes its leader from a partition, or gives it one. For tests.
    pub fn set_led(&self, topic: &str, partition: i32, led: bool) -> Result<(), EmbeddedError> {
        let topic = topic.to_owned();
        self.ask(|done| Command::Lead { topic, partition, led, done })?.map_err(EmbeddedError::Start)
    }

    /// Lets the next requests of a kind fail with `errors`, one after the other; none: no request fails any more. For tests.
    pub fn fail_next(&self, api: rdkafka::types::RDKafkaApiKey, errors: &[rdkafka::types::RDKafkaRespErr]) {
        let _ = self.commands.send(Command::Fail { api, errors: errors.to_vec() });
    }

    fn ask(
        &self,
        command: impl FnOnce(mpsc::Sender<Result<(), KafkaError>>) -> Command,
    ) -> Result<Result<(), KafkaError>, EmbeddedError> {
        let (done, answer) = mpsc::channel();
        self.commands.send(command(done)).map_err(|_| EmbeddedError::Ended)?;
        answer.recv().map_err(|_| EmbeddedError::Ended)
    }
}

fn run(started: &mpsc::Sender<Result<String, KafkaError>>, inbox: &mpsc::Receiver<Command>) {
    const BROKER: i32 = 1;
    let cluster = match MockCluster::new(1) {
        Ok(cluster) => cluster,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(cluster.bootstrap_servers()));
    // Ends when the owner is gone, and the cluster with it.
    while let Ok(command) = inbox.recv() {
        match command {
            Command::Create { topic, partitions, done } => {
                let _ = done.send(cluster.create_topic(&topic, i32::try_from(partitions).unwrap_or(1), 1));
            }
            Command::Up { up, done } => {
                let _ = done.send(if up { cluster.broker_up(BROKER) } else { cluster.broker_down(BROKER) });
            }
            Command::Lead { topic, partition, led, done } => {
                let _ = done.send(cluster.partition_leader(&topic, partition, led.then_some(BROKER)));
            }
            Command::Fail { api, errors } if errors.is_empty() => cluster.clear_request_errors(api),
            Command::Fail { api, errors } => cluster.request_errors(api, &errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_that_is_there_is_no_error() {
        let broker = Embedded::start(&[Topic::named("trades", "{key}")]).unwrap();
        broker.create_topic("trades", 1).unwrap();
        broker.create_topic("no\0name", 1).unwrap_err();
    }
}
