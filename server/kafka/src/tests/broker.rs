//! Tests of the source with a real Kafka, for features that the embedded broker lacks. They need brokers:
//! `tests/kafka/run --secure cargo test -p wscluster-kafka --lib broker -- --ignored`.

mod login;

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;
use wscluster_admin::health::KafkaStatus;
use wscluster_api::spec::{Kafka, Topic};
use wscluster_api::units::Span;
use wscluster_protocol::Partition;

use crate::feed::Update;
use crate::{KafkaCheck, Options, Source, start};

const DEADLINE: Duration = Duration::from_mins(1);
const NEEDS: &str = "run this by tests/kafka/run";

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: {NEEDS}"))
}

/// Partition, offset and value of a record.
type Read = (Partition, i64, String);
/// Partition, first offset, and whether records were lost.
type Begun = (Partition, i64, bool);

/// A topic on the real brokers for one test, and a source that reads it.
struct Rig {
    topic: String,
    runtime: tokio::runtime::Runtime,
    admin: AdminClient<DefaultClientContext>,
    producer: ThreadedProducer<DefaultProducerContext>,
    source: Option<Source>,
    updates: Option<mpsc::Receiver<Update>>,
}

impl Rig {
    fn new(name: &str, partitions: i32) -> Self {
        let topic = format!("{name}-{:08x}", rand::random::<u32>());
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", var("KAFKA_BROKERS")).set("allow.auto.create.topics", "false");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut rig = Self {
            topic,
            runtime,
            admin: config.create().unwrap(),
            producer: config.set("enable.idempotence", "true").set("linger.ms", "1").create().unwrap(),
            source: None,
            updates: None,
        };
        rig.create(partitions);
        rig
    }

    fn create(&mut self, partitions: i32) {
        let new =
            NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(1)).set("max.message.bytes", "20000000");
        let end = Instant::now() + DEADLINE;
        // A topic that is being deleted cannot be created yet.
        loop {
            let created = self.runtime.block_on(self.admin.create_topics([&new], &AdminOptions::new())).unwrap();
            match &created[0] {
                Ok(_) => return,
                Err(error) => assert!(Instant::now() < end, "{error:?}"),
            }
        }
    }

    fn delete(&mut self) {
        let deleted = self.runtime.block_on(self.admin.delete_topics(&[&self.topic], &AdminOptions::new())).unwrap();
        deleted[0].as_ref().unwrap();
    }

    fn send(&self, partition: i32, values: impl IntoIterator<Item = String>) {
        for value in values {
            let record = BaseRecord::to(&self.topic).partition(partition).key("k").payload(&value);
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.producer.flush(DEADLINE).unwrap();
    }

    fn spec(&self) -> Kafka {
        let brokers = var("KAFKA_BROKERS").split(',').map(str::to_owned).collect();
        Kafka { brokers, topics: vec![Topic::named(&self.topic, "{key}")], ..Kafka::default() }
    }

    fn start(&mut self, spec: &Kafka) {
        self.start_with(spec, 64);
    }

    fn start_with(&mut self, spec: &Kafka, capacity: usize) {
        let (worker, updates) = mpsc::channel(capacity);
        let options = Options { client: "wscluster-test".into(), ..Options::default() };
        self.source = Some(start(spec, &options, vec![worker]).unwrap());
        self.updates = Some(updates);
    }

    fn status(&self) -> KafkaCheck {
        self.source.as_ref().unwrap().status()
    }

    fn wait_for(&self, what: &str, condition: impl Fn(&KafkaCheck) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !condition(&self.status()) {
            assert!(Instant::now() < end, "{what}: {:?}", self.status());
            std::thread::yield_now();
        }
    }

    fn next(&mut self) -> Update {
        let updates = self.updates.as_mut().unwrap();
        let next = self.runtime.block_on(async { tokio::time::timeout(DEADLINE, updates.recv()).await });
        next.unwrap_or_else(|_| panic!("nothing came: {:?}", self.status())).unwrap()
    }

    /// Offsets and values of the next `count` records, by partition, and the `Begin`s among them.
    fn read(&mut self, count: usize) -> (Vec<Read>, Vec<Begun>) {
        let (mut records, mut begun) = (Vec::new(), Vec::new());
        while records.len() < count {
            match self.next() {
                Update::Records(batch) => records.extend(batch.iter().map(|record| {
                    let json: serde_json::Value = serde_json::from_slice(record.payload()).unwrap();
                    (record.position.partition, record.position.offset, json["data"].to_string())
                })),
                Update::Begin { partition, from, lost, .. } => begun.push((partition, from, lost)),
                Update::Filled => {}
            }
        }
        (records, begun)
    }

    fn until_filled(&mut self) -> Vec<(Partition, i64)> {
        let mut records = Vec::new();
        loop {
            match self.next() {
                Update::Records(batch) => {
                    records.extend(batch.iter().map(|record| (record.position.partition, record.position.offset)));
                }
                Update::Begin { lost, .. } => assert!(!lost),
                Update::Filled => return records,
            }
        }
    }
}

fn numbers(range: std::ops::Range<i32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
#[ignore = "needs a real Kafka"]
fn fills_the_window_from_its_time_not_from_the_log() {
    let mut rig = Rig::new("history", 3);
    for partition in 0..3 {
        rig.send(partition, numbers(0..50));
    }
    // The log's records fall out of a window of two seconds.
    let old = Instant::now() + Duration::from_secs(3);
    while Instant::now() < old {
        std::thread::yield_now();
    }
    rig.send(1, numbers(50..60));
    let mut spec = rig.spec();
    spec.history.window = Span::secs(2);
    rig.start(&spec);
    let records = rig.until_filled();
    assert_eq!(records.iter().map(|(_, offset)| *offset).collect::<Vec<_>>(), (50..60).collect::<Vec<_>>());
    rig.wait_for("caught up", |status| status.status == KafkaStatus::Connected && status.lag == 0);
}

#[test]
#[ignore = "needs a real Kafka"]
fn picks_up_partitions_that_are_added() {
    let mut rig = Rig::new("partitions", 1);
    let spec = rig.spec();
    rig.start(&spec);
    rig.until_filled();
    let more = NewPartitions::new(&rig.topic, 3);
    rig.runtime.block_on(rig.admin.create_partitions([&more], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
    rig.send(2, numbers(0..5));
    let (records, begun) = rig.read(5);
    assert!(records.iter().all(|(partition, ..)| partition.number == 2));
    assert_eq!(begun.len(), 2);
    assert!(begun.iter().all(|(_, from, lost)| *from == 0 && !lost));
}

#[test]
#[ignore = "needs a real Kafka"]
fn begins_a_recreated_topic_as_another_life_also_when_it_is_longer() {
    for longer in [false, true] {
        let mut rig = Rig::new("recreated", 1);
        let spec = rig.spec();
        rig.start(&spec);
        rig.send(0, numbers(0..5));
        let (records, _) = rig.read(5);
        let first = records[0].0;
        rig.delete();
        rig.create(1);
        // The worst case: when the shard looks again, the new log is longer than the old one was.
        let count = if longer { 50 } else { 3 };
        rig.send(0, numbers(100..100 + count));
        let (records, begun) = rig.read(usize::try_from(count).unwrap());
        assert_ne!(begun[0].0.epoch, first.epoch);
        assert_eq!(begun.iter().map(|(_, from, lost)| (*from, *lost)).collect::<Vec<_>>(), [(0, true)]);
        for (n, (partition, offset, value)) in (0..).zip(&records) {
            assert_eq!((partition.epoch, *offset, value.as_str()), (begun[0].0.epoch, n, &*(100 + n).to_string()));
        }
    }
}

#[test]
#[ignore = "needs a real Kafka"]
fn tells_of_the_gap_when_retention_overtook_it() {
    let mut rig = Rig::new("retention", 1);
    let spec = rig.spec();
    rig.start_with(&spec, 1);
    rig.until_filled();
    // A worker that does not receive: the source blocks, while the log grows and is cut.
    let value = "x".repeat(1_000);
    let mut sent = 0;
    while rig.status().lag < 40_000 {
        rig.send(0, (0..1_000).map(|_| value.clone()));
        sent += 1_000;
        assert!(sent < 500_000, "no lag");
    }
    let cut = i64::from(sent) - 100;
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&rig.topic, 0, Offset::Offset(cut)).unwrap();
    rig.runtime.block_on(rig.admin.delete_records(&before, &AdminOptions::new())).unwrap();
    let mut last = -1;
    let (mut gaps, mut missed) = (0, 0);
    while last < i64::from(sent) - 1 {
        match rig.next() {
            Update::Records(batch) => {
                for record in batch {
                    assert_eq!(record.position.offset, last + 1);
                    assert!(record.prev.is_none_or(|prev| prev.offset == last));
                    last = record.position.offset;
                }
            }
            Update::Begin { from, lost, .. } => {
                assert!(lost && from >= cut);
                (gaps, missed) = (gaps + 1, from - last - 1);
                last = from - 1;
            }
            Update::Filled => {}
        }
    }
    assert_eq!(gaps, 1);
    assert!(missed > 0);
    rig.wait_for("caught up", |status| status.lag == 0 && status.error.is_none());
}

#[test]
#[ignore = "needs a real Kafka"]
fn reads_committed_transactions_only_and_gets_past_their_markers() {
    let mut rig = Rig::new("transactions", 1);
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", var("KAFKA_BROKERS"))
        .set("transactional.id", &rig.topic)
        .create()
        .unwrap();
    producer.init_transactions(DEADLINE).unwrap();
    let transaction = |value: &str, commit: bool| {
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::to(&rig.topic).key("k").payload(value)).map_err(|(error, _)| error).unwrap();
        producer.flush(DEADLINE).unwrap();
        if commit { producer.commit_transaction(DEADLINE) } else { producer.abort_transaction(DEADLINE) }.unwrap();
    };
    transaction("1", true);
    transaction("2", false);
    let spec = rig.spec();
    // Ends in markers: the window is full only when the source looks beyond the last record.
    let topic = rig.topic.clone();
    rig.start(&spec);
    assert_eq!(rig.until_filled().len(), 1);
    rig.wait_for("no lag", |status| status.lag == 0 && status.status == KafkaStatus::Connected);
    let transaction = |value: &str, commit: bool| {
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::to(&topic).key("k").payload(value)).map_err(|(error, _)| error).unwrap();
        producer.flush(DEADLINE).unwrap();
        if commit { producer.commit_transaction(DEADLINE) } else { producer.abort_transaction(DEADLINE) }.unwrap();
    };
    transaction("3", false);
    transaction("4", true);
    let (records, _) = rig.read(1);
    assert_eq!(records[0].2, "4");
    rig.wait_for("no lag", |status| status.lag == 0);
}

#[test]
#[ignore = "needs a real Kafka"]
fn reads_every_codec() {
    let mut rig = Rig::new("codecs", 1);
    let spec = rig.spec();
    rig.start(&spec);
    rig.until_filled();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
            .set("bootstrap.servers", var("KAFKA_BROKERS"))
            .set("compression.codec", codec)
            .set("linger.ms", "50")
            .create()
            .unwrap();
        for n in 0..20 {
            let value = format!("\"{codec} {n} {}\"", "x".repeat(200));
            producer.send(BaseRecord::to(&rig.topic).key("k").payload(&value)).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(DEADLINE).unwrap();
        let (records, _) = rig.read(20);
        assert!(records.iter().all(|(.., value)| value.contains(codec)), "{codec}");
    }
}

#[test]
#[ignore = "needs a real Kafka"]
fn skips_a_record_of_ten_megabytes_and_goes_on() {
    let mut rig = Rig::new("large", 1);
    let spec = rig.spec();
    rig.start(&spec);
    rig.until_filled();
    let large: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", var("KAFKA_BROKERS"))
        .set("message.max.bytes", "20000000")
        .create()
        .unwrap();
    rig.send(0, numbers(0..1));
    let value = "x".repeat(10_000_000);
    large.send(BaseRecord::to(&rig.topic).key("k").payload(&value)).map_err(|(error, _)| error).unwrap();
    large.flush(DEADLINE).unwrap();
    rig.send(0, numbers(1..3));
    let (records, _) = rig.read(3);
    assert_eq!(
        records.iter().map(|(_, offset, value)| (*offset, value.as_str())).collect::<Vec<_>>(),
        [(0, "0"), (2, "1"), (3, "2")]
    );
    rig.wait_for("complaint", |status| has(status, "larger than a client's queue"));
}

fn has(status: &KafkaCheck, text: &str) -> bool {
    status.error.as_deref().is_some_and(|error| error.contains(text))
}
