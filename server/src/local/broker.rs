//! The embedded broker of a run whose manifest names none: librdkafka's in-process cluster, in memory only.

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use wscluster_api::spec::Kafka;

/// A broker that lives as long as this does.
pub struct Broker {
    bootstrap: String,
    _cluster: MockCluster<'static, DefaultProducerContext>,
}

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
#[error("failed to start the embedded broker: {0}")]
pub struct BrokerError(#[from] KafkaError);

impl Broker {
    /// Starts it with the topics of `kafka`.
    pub fn start(kafka: &Kafka) -> Result<Self, BrokerError> {
        let cluster = MockCluster::new(1)?;
        for topic in kafka.topics.iter().filter(|topic| !topic.name.is_empty()) {
            cluster.create_topic(&topic.name, topic.partitions.cast_signed(), 1)?;
        }
        Ok(Self { bootstrap: cluster.bootstrap_servers(), _cluster: cluster })
    }

    /// Its address.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}
