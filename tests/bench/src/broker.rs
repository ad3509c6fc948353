//! An embedded Kafka broker (librdkafka's in-process cluster) and an ordinary producer. Records reach a shard over the
//! real protocol; broker and producer use the CPU of this process.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use tokio::time::{Instant, sleep, sleep_until};

use crate::error::{Error, Result};
use crate::fleet::stamp;
use crate::ours::{TOPIC, channel};

/// A broker in this process.
pub struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Broker {
    /// Starts a broker with the topic of the benches.
    pub fn start() -> Result<Self> {
        let cluster = MockCluster::new(1).map_err(|e| failed("start the embedded broker", &e))?;
        cluster.create_topic(TOPIC, 1, 1).map_err(|e| failed("create the topic", &e))?;
        Ok(Self { cluster })
    }

    /// Its address.
    pub fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }
}

/// Publishes to one topic.
pub struct Publisher {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: String,
}

impl Publisher {
    /// A producer for `topic` at `brokers`. Records within `linger` are sent together.
    pub fn connect(brokers: &str, topic: &str, linger: Duration) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("linger.ms", linger.as_millis().to_string())
            .create()
            .map_err(|e| failed("create a producer", &e))?;
        Ok(Self { producer, topic: topic.to_owned() })
    }

    /// Publishes `records` stamped records of `len` bytes for `key`, `per_second` per second. A stamp is the time at
    /// which its record is sent. A header also names the channel, for servers that expect it there.
    pub async fn publish_stamped(&self, key: &str, len: usize, records: usize, per_second: f64) -> Result<()> {
        let began = Instant::now();
        for i in 0..records {
            sleep_until(began + Duration::from_secs_f64(i as f64 / per_second)).await;
            let value = stamp::value(len);
            let headers = OwnedHeaders::new().insert(Header { key: "channels", value: Some(channel(key).as_str()) });
            self.producer
                .send(BaseRecord::to(&self.topic).key(key).payload(&value).headers(headers))
                .map_err(|(error, _)| failed("publish", &error))?;
        }
        Ok(())
    }

    /// Publishes `records` of `len` bytes as fast as the brokers accept them, with all keys in turn and timestamps
    /// between the two ages of `age`. Blocks this thread.
    pub fn publish_past(&self, keys: &[String], len: usize, records: usize, age: [Duration; 2]) -> Result<()> {
        let value = value(len);
        let now = i64::try_from(stamp::now() / 1_000).unwrap_or_default();
        let [first, last] = age.map(|age| now - i64::try_from(age.as_millis()).unwrap_or_default());
        for (i, key) in (0_i64..).zip(keys.iter().cycle().take(records)) {
            let at = first + (last - first) * i / i64::try_from(records).unwrap_or(i64::MAX);
            let one = || BaseRecord::to(&self.topic).key(key).payload(&value).timestamp(at);
            while let Err((error, _)) = self.producer.send(one()) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(failed("publish", &error));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.producer.flush(Duration::from_mins(1)).map_err(|error| failed("publish everything", &error))
    }

    /// Publishes `records` of `len` bytes with all keys in turn, `burst` at a time and `per_second` in total.
    pub async fn publish<K: AsRef<str>>(
        &self,
        keys: &[K],
        len: usize,
        records: usize,
        per_second: f64,
        burst: usize,
    ) -> Result<()> {
        let value = value(len);
        let began = Instant::now();
        for (record, key) in keys.iter().cycle().take(records).enumerate() {
            sleep_until(began + Duration::from_secs_f64((record / burst * burst) as f64 / per_second)).await;
            let one = || BaseRecord::to(&self.topic).key(key.as_ref()).payload(&value);
            while let Err((error, _)) = self.producer.send(one()) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(failed("publish", &error));
                }
                sleep(Duration::from_millis(1)).await;
            }
        }
        // Not `flush`: it would block the thread of the clients.
        while self.producer.in_flight_count() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

/// The value of a record: a JSON object of exactly `len` bytes.
fn value(len: usize) -> String {
    let frame = r#"{"price":""}"#.len();
    format!(r#"{{"price":"{}"}}"#, "1".repeat(len.saturating_sub(frame)))
}

fn failed(what: &str, error: &KafkaError) -> Error {
    Error::Unusable(format!("failed to {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_values_of_the_asked_size() {
        for len in [128, 256] {
            let value = value(len);
            assert_eq!(value.len(), len);
            assert!(serde_json::from_str::<serde_json::Value>(&value).unwrap().is_object());
        }
    }
}
