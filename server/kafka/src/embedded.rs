//! The embedded broker of `wscluster local`: librdkafka's mock cluster, on loopback and in memory.
//!
//! It works with any Kafka producer and consumer. Each partition keeps its newest 5 MiB (or 100,000 batches), and all
//! data is lost when the process ends. It lacks offsets by time, isolation of transactions, security and replication.
//! Not for production.

use std::sync::mpsc;
use std::thread;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use wscluster_api::spec::{Topic, TopicSelector};

/// A running broker. Dropping it ends it.
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

/// The embedded broker failed.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// librdkafka could not start it.
    #[error("failed to start the embedded broker: {0}")]
    Start(#[source] KafkaError),
    /// Its thread could not be started.
    #[error("failed to start the embedded broker: {0}")]
    Thread(#[from] std::io::Error),
    /// A topic could not be created.
    #[error("failed to create topic {topic} on the embedded broker: {source}")]
    Topic {
        /// Name of the topic.
        topic: String,
        /// The cause.
        source: KafkaError,
    },
    /// Its thread has ended.
    #[error("the embedded broker has ended")]
    Ended,
}

impl Embedded {
    /// Starts one broker on a free port of 127.0.0.1 and creates the topics that have a name.
    pub fn start(topics: &[Topic]) -> Result<Self, EmbeddedError> {
        let (commands, inbox) = mpsc::channel();
        let (started, start) = mpsc::channel();
        // The cluster holds a pointer that must not be shared, so it stays on one thread.
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

    /// Creates a topic. An existing one stays unchanged.
    pub fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), EmbeddedError> {
        match self.ask(|done| Command::Create { topic: topic.to_owned(), partitions, done })? {
            Err(source) if source.rdkafka_error_code() != Some(RDKafkaErrorCode::TopicAlreadyExists) => {
                Err(EmbeddedError::Topic { topic: topic.to_owned(), source })
            }
            _ => Ok(()),
        }
    }

    /// Disconnects the broker, or reconnects it with its data. For tests.
    pub fn set_up(&self, up: bool) -> Result<(), EmbeddedError> {
        self.ask(|done| Command::Up { up, done })?.map_err(EmbeddedError::Start)
    }

    /// Removes the leader of a partition, or restores it. For tests.
    pub fn set_led(&self, topic: &str, partition: i32, led: bool) -> Result<(), EmbeddedError> {
        let topic = topic.to_owned();
        self.ask(|done| Command::Lead { topic, partition, led, done })?.map_err(EmbeddedError::Start)
    }

    /// Makes the next requests of a kind fail with `errors`, in order; an empty list ends this. For tests.
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
    // Ends, and the cluster with it, when the owner is dropped.
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
    fn creating_an_existing_topic_is_no_error() {
        let broker = Embedded::start(&[Topic::named("trades", "{key}")]).unwrap();
        broker.create_topic("trades", 1).unwrap();
        broker.create_topic("no\0name", 1).unwrap_err();
    }
}
