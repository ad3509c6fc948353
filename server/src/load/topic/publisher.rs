//! Publishes on schedule: an open loop, each record stamped when it leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use serde::Serialize;

use super::{ANSWER_TIME, Topic, TopicError, record};
use crate::load::latency::Latency;
use crate::load::order::unix_now;

/// Delivery reports.
#[derive(Debug, Default)]
struct Published {
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

impl Published {
    fn read(&self) -> (u64, u64) {
        (self.acknowledged.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

struct Acknowledged(Arc<Published>);

impl rdkafka::client::ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.0.acknowledged } else { &self.0.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Publishes in its own thread.
pub(in crate::load) struct Publisher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Latency>,
    counts: Arc<Published>,
}

/// What was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(in crate::load) struct PublisherReport {
    /// Records acknowledged by the broker.
    pub(in crate::load) published: u64,
    /// Records that were not.
    pub(in crate::load) failed: u64,
    /// How late records left this tester, milliseconds, 99th percentile.
    pub late_ms_p99: f64,
}

impl Publisher {
    /// No further record.
    pub(in crate::load) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Records acknowledged, and records that failed, so far.
    pub(in crate::load) fn counts(&self) -> (u64, u64) {
        self.counts.read()
    }

    /// Stops and waits for what is under way. Blocks.
    pub(in crate::load) fn finish(self) -> Result<PublisherReport, TopicError> {
        self.stop();
        let Self { thread, counts, .. } = self;
        let late = thread.join().map_err(|_| TopicError::Fault)?;
        let (published, failed) = counts.read();
        Ok(PublisherReport { published, failed, late_ms_p99: late.summary().p99 })
    }
}

impl Topic {
    /// Publishes `rate` records a second of `payload` bytes, to all channels in turn, until told to stop.
    pub(in crate::load) fn publish(&self, rate: f64, payload: usize) -> Result<Publisher, TopicError> {
        let counts = Arc::<Published>::default();
        let mut config = self.config();
        config.set("linger.ms", "1").set("enable.idempotence", "true").set("delivery.timeout.ms", "10000");
        let context = Acknowledged(Arc::clone(&counts));
        let producer: ThreadedProducer<Acknowledged> =
            config.create_with_context(context).map_err(self.error("create a producer"))?;
        let keys: Vec<String> = self.channels.iter().filter_map(|channel| self.template.key(channel)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let (name, stopped) = (self.name.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut late = Latency::default();
            let start = Instant::now();
            for n in 0_u64.. {
                let due = start + Duration::from_secs_f64(n as f64 / rate);
                while !stopped.load(Ordering::Relaxed) && Instant::now() < due {
                    std::thread::sleep((due - Instant::now().min(due)).min(Duration::from_millis(50)));
                }
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                late.record(due.elapsed());
                let mut value = record(unix_now(), n, payload);
                loop {
                    let record = BaseRecord::to(&name).key(&keys[n as usize % keys.len()]).payload(&value);
                    match producer.send(record) {
                        Ok(()) => break,
                        // Back-pressure of the broker: the record waits, and its stamp with it.
                        Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _))
                            if !stopped.load(Ordering::Relaxed) =>
                        {
                            std::thread::sleep(Duration::from_millis(1));
                            value = self::record(unix_now(), n, payload);
                        }
                        Err(_) => {
                            context_failed(&producer);
                            break;
                        }
                    }
                }
            }
            let _ = producer.flush(ANSWER_TIME);
            late
        });
        Ok(Publisher { stop, thread, counts })
    }
}

fn context_failed(producer: &ThreadedProducer<Acknowledged>) {
    producer.context().0.failed.fetch_add(1, Ordering::Relaxed);
}
