//! librdkafka's configuration from a manifest: what a shard needs, what the manifest asks for, and what a user adds.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use wscluster_api::spec::Kafka;

use super::context::Context;
use super::security::{self, SecurityError};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No broker is named.
    #[error("source.kafka.brokers is empty: name at least one host:port, or pass --brokers")]
    NoBrokers,
    /// A secret cannot be had.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The rack's variable is not set.
    #[error("failed to read source.kafka.rack: environment variable {0} is not set")]
    Rack(String),
}

/// How a client of the brokers is made.
#[derive(Debug)]
pub struct Connect<'a> {
    /// The source in the manifest.
    pub spec: &'a Kafka,
    /// Instead of the manifest's brokers, when not empty.
    pub brokers: &'a [String],
    /// Name of this client in the brokers' logs, when the manifest gives none.
    pub client: &'a str,
}

impl Connect<'_> {
    /// What consumers and producers have in common: where the brokers are and how to log in.
    fn base(&self) -> Result<(ClientConfig, Context), ConfigError> {
        let brokers = if self.brokers.is_empty() { &self.spec.brokers } else { self.brokers };
        if brokers.is_empty() {
            return Err(ConfigError::NoBrokers);
        }
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers.join(","))
            .set("client.id", self.spec.client_id.as_deref().unwrap_or(self.client))
            // A broker that restarts is found again at once, not after the default's ten seconds.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.connection.setup.timeout.ms", "10000")
            .set("socket.keepalive.enable", "true")
            // A link that was cut is dialled anew, not left to TCP: its retries are up to as far apart as the cut was long.
            .set("socket.timeout.ms", "10000")
            .set("log.connection.close", "false")
            .set("allow.auto.create.topics", "false")
            .set_log_level(RDKafkaLogLevel::Info);
        if let Some(rack) = &self.spec.rack {
            let rack = match (&rack.value, &rack.env) {
                (Some(value), _) => value.clone(),
                (None, Some(env)) => std::env::var(env).map_err(|_| ConfigError::Rack(env.clone()))?,
                (None, None) => String::new(),
            };
            config.set("client.rack", rack);
        }
        let tokens = match &self.spec.security {
            Some(security) => security::apply(&mut config, security)?,
            None => None,
        };
        Ok((config, Context::new(tokens)))
    }

    /// For a consumer that reads by `assign`, without a group.
    pub(super) fn consumer(&self) -> Result<(ClientConfig, Context), ConfigError> {
        let (mut config, context) = self.base()?;
        config
            // librdkafka assigns only to a consumer with a group id; it is never joined and nothing is committed to it.
            .set("group.id", self.spec.client_id.as_deref().unwrap_or(self.client))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("max.poll.interval.ms", "86400000")
            // Never silently somewhere else: what retention took is told to clients.
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", self.fetch_wait_ms())
            .set("fetch.error.backoff.ms", "100")
            .set("fetch.queue.backoff.ms", "10")
            // An answer of this size comes within `socket.timeout.ms` over any line that is worth it (7 Mbit/s).
            .set("fetch.max.bytes", "8388608")
            .set("queued.min.messages", "20000")
            .set("queued.max.messages.kbytes", "16384")
            .set("topic.metadata.refresh.interval.ms", "10000");
        self.extend(&mut config);
        // Whatever was asked for: the reader learns from these lines that a topic was recreated.
        let debug = config.get("debug").map_or_else(|| "metadata".to_owned(), |asked| format!("{asked},metadata"));
        config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
        Ok((config, context))
    }

    /// How long the first records after an assignment may take, since a fetch in flight has to end first. The embedded
    /// broker, which is there when the manifest names none, answers an empty fetch only when that time is over, also
    /// when a record came meanwhile: there it is most of the latency.
    fn fetch_wait_ms(&self) -> &'static str {
        if self.spec.brokers.is_empty() { "5" } else { "100" }
    }

    /// For a producer that keeps order and writes each record once (KIP-98).
    pub fn producer(&self) -> Result<(ClientConfig, Context), ConfigError> {
        let (mut config, context) = self.base()?;
        config
            .set("enable.idempotence", "true")
            // The topic says how large a record may be, not this client.
            .set("message.max.bytes", "1000000000")
            .set("linger.ms", "5")
            .set("compression.codec", "lz4")
            // As the Java client does: equal keys must meet in one partition whoever writes them.
            .set("partitioner", "murmur2_random");
        self.extend(&mut config);
        Ok((config, context))
    }

    fn extend(&self, config: &mut ClientConfig) {
        for (property, value) in &self.spec.properties {
            config.set(property, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use wscluster_api::spec::Rack;

    use super::*;
    use crate::check;

    #[test]
    fn check_finds_what_librdkafka_refuses() {
        let elsewhere = Rack { env: Some("WSCLUSTER_NO_SUCH_RACK".into()), value: None };
        for rack in [None, Some(elsewhere)] {
            let with = |property: &str, value: &str| {
                let properties = [(property.to_owned(), value.to_owned())].into();
                check(&Kafka { properties, rack: rack.clone(), ..Kafka::default() })
            };
            with("fetch.min.bytes", "10").unwrap();
            for (property, value) in [("no.such.property", "1"), ("fetch.min.bytes", "many")] {
                let error = with(property, value).unwrap_err().to_string();
                assert!(error.contains(property), "{error}");
            }
        }
    }
}
