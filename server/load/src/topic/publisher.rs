//! Publishes records on schedule, as an open loop. Each record carries the time of its publication.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use serde::Serialize;

use super::{ANSWER_TIME, Said, Topic, TopicError, record};
use crate::latency::Latency;
use crate::worker_plan::unix_now;

/// Counts of delivery reports.
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

struct Acknowledged {
    published: Arc<Published>,
    said: Said,
}

impl ClientContext for Acknowledged {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, line: &str) {
        self.said.log(level, fac, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.said.error(error, reason);
    }
}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.published.acknowledged } else { &self.published.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A thread that publishes.
pub(crate) struct Publisher {
    begin: Sender<()>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Latency>,
    counts: Arc<Published>,
}

/// The result of publishing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct PublisherReport {
    /// Records acknowledged by the broker.
    pub(crate) published: u64,
    /// Records that were not acknowledged.
    pub(crate) failed: u64,
    /// Delay of records after their planned instants: 99th percentile in milliseconds.
    pub late_ms_p99: f64,
}

impl Publisher {
    /// Publishes the first record now.
    pub(crate) fn begin(&self) {
        // The thread waits for this message; it fails only after a panic, which `finish` reports.
        let _ = self.begin.send(());
    }

    /// Publishes no further record.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Records acknowledged so far, and records failed so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.counts.read()
    }

    /// Stops and waits for outstanding acknowledgements. Blocks.
    pub(crate) fn finish(self) -> Result<PublisherReport, TopicError> {
        self.stop();
        let Self { begin, thread, counts, .. } = self;
        drop(begin);
        let late = thread.join().map_err(|_| TopicError::Fault)?;
        let (published, failed) = counts.read();
        Ok(PublisherReport { published, failed, late_ms_p99: late.summary().p99 })
    }
}

impl Topic {
    /// Prepares to publish `rate` records per second of `payload` bytes, to all channels in turn, between
    /// [`Publisher::begin`] and [`Publisher::stop`].
    pub(crate) fn publish(&self, rate: f64, payload: usize) -> Result<Publisher, TopicError> {
        let counts = Arc::<Published>::default();
        let mut config = self.config();
        // Not idempotent: the first record would wait half a second for a producer id. If a retry writes a record
        // twice, the audit sees two records as well.
        config.set("linger.ms", "1").set("delivery.timeout.ms", "10000");
        // As the Java client does: equal keys go to the same partition whatever client writes them.
        config.set("partitioner", "murmur2_random");
        let said = Said::default();
        let context = Acknowledged { published: Arc::clone(&counts), said: said.clone() };
        let producer: ThreadedProducer<Acknowledged> =
            config.create_with_context(context).map_err(self.error("create a producer", &said))?;
        // Otherwise the first record would wait for the metadata.
        producer
            .client()
            .fetch_metadata(Some(&self.name), ANSWER_TIME)
            .map_err(self.error("ask for the topic", &said))?;
        let keys: Vec<String> = self.channels.iter().filter_map(|channel| self.template.key(channel)).collect();
        let (begin, signal) = std::sync::mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (topic, stopped) = (self.name.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut work = Work { producer, topic, keys, rate, payload, stopped, late: Latency::default() };
            // The sender is dropped without a message if publishing ends before it begins.
            if signal.recv() == Ok(()) {
                work.publish();
            }
            work.late
        });
        Ok(Publisher { begin, stop, thread, counts })
    }
}

/// State of the publishing thread.
struct Work {
    producer: ThreadedProducer<Acknowledged>,
    topic: String,
    keys: Vec<String>,
    rate: f64,
    payload: usize,
    stopped: Arc<AtomicBool>,
    late: Latency,
}

impl Work {
    fn publish(&mut self) {
        let start = Instant::now();
        for n in 0_u64.. {
            let due = start + Duration::from_secs_f64(n as f64 / self.rate);
            while !self.is_stopped() && Instant::now() < due {
                std::thread::sleep(due.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
            }
            if self.is_stopped() {
                break;
            }
            self.send(n);
            self.late.record(due.elapsed());
        }
        // Records without an acknowledgement by then count as failed.
        let _ = self.producer.flush(ANSWER_TIME);
    }

    fn send(&self, n: u64) {
        loop {
            let value = record(unix_now(), n, self.payload);
            let key = &self.keys[n as usize % self.keys.len()];
            match self.producer.send(BaseRecord::to(&self.topic).key(key).payload(&value)) {
                Ok(()) => return,
                // Back-pressure from the broker. The record is published later, and the delay counts as lateness.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) if !self.is_stopped() => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(_) => {
                    self.producer.context().published.failed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
