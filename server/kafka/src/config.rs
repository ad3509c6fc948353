//! Configuration of librdkafka: defaults of wscluster, fields of the manifest, then the manifest's `properties`.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use wscluster_api::spec::Kafka;

use super::context::Context;
use super::security::{self, SecurityError};

/// The configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No broker is named.
    #[error("source.kafka.brokers is empty: name at least one host:port, or pass --brokers")]
    NoBrokers,
    /// The security settings cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The environment variable of the rack is not set.
    #[error("failed to read source.kafka.rack: environment variable {0} is not set")]
    Rack(String),
}

/// Makes configurations of clients of the brokers.
#[derive(Debug)]
pub struct Connect<'a> {
    /// `source.kafka` of the manifest.
    pub spec: &'a Kafka,
    /// Brokers that replace those of the manifest, unless empty.
    pub brokers: &'a [String],
    /// Client id in the brokers' logs, where the manifest gives none.
    pub client: &'a str,
}

impl Connect<'_> {
    /// The properties that consumers and producers share: brokers, timeouts and login.
    fn base(&self) -> Result<(ClientConfig, Context), ConfigError> {
        let brokers = if self.brokers.is_empty() { &self.spec.brokers } else { self.brokers };
        if brokers.is_empty() {
            return Err(ConfigError::NoBrokers);
        }
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers.join(","))
            .set("client.id", self.spec.client_id.as_deref().unwrap_or(self.client))
            // A restarted broker is found at once; the default waits up to ten seconds.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.connection.setup.timeout.ms", "10000")
            .set("socket.keepalive.enable", "true")
            // After a cut link, a new connection is faster than TCP, whose retries back off with the length of the
            // cut.
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

    /// The configuration of a consumer that reads by `assign`, without a group.
    pub(super) fn consumer(&self) -> Result<(ClientConfig, Context), ConfigError> {
        let (mut config, context) = self.base()?;
        config
            // librdkafka requires a group id to assign. The group is never joined, and nothing is committed.
            .set("group.id", self.spec.client_id.as_deref().unwrap_or(self.client))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("max.poll.interval.ms", "86400000")
            // Never continue silently elsewhere: clients must get a `gap` for records that retention deleted.
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", self.fetch_wait_ms())
            .set("fetch.error.backoff.ms", "100")
            .set("fetch.queue.backoff.ms", "10")
            // A response of this size arrives within `socket.timeout.ms` at 7 Mbit/s.
            .set("fetch.max.bytes", "8388608")
            .set("queued.min.messages", "20000")
            .set("queued.max.messages.kbytes", "16384")
            .set("topic.metadata.refresh.interval.ms", "10000");
        self.extend(&mut config);
        // Always: these log lines show the reader that a topic was recreated, see `Context`.
        let debug = config.get("debug").map_or_else(|| "metadata".to_owned(), |asked| format!("{asked},metadata"));
        config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
        Ok((config, context))
    }

    /// Longest wait of an empty fetch. An assignment takes effect after the fetch in flight. The embedded broker,
    /// which is used when the manifest names no brokers, ends an empty fetch only after this time, so there it
    /// dominates the latency.
    fn fetch_wait_ms(&self) -> &'static str {
        if self.spec.brokers.is_empty() { "5" } else { "100" }
    }

    /// The configuration of a producer that keeps order and writes each record once (KIP-98).
    pub fn producer(&self) -> Result<(ClientConfig, Context), ConfigError> {
        let (mut config, context) = self.base()?;
        config
            .set("enable.idempotence", "true")
            // The topic limits the size of records, not this client.
            .set("message.max.bytes", "1000000000")
            .set("linger.ms", "5")
            .set("compression.codec", "lz4")
            // The partitioner of the Java client, so that equal keys of all producers meet in one partition.
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
    fn check_finds_properties_that_librdkafka_refuses() {
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
