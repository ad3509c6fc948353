//! Tests of the source with the embedded broker, including failures of that broker.

mod broker;

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as E};
use tokio::sync::mpsc;
use wscluster_admin::health::KafkaStatus;
use wscluster_api::spec::{Kafka, Topic};
use wscluster_protocol::Record;

use super::embedded::Embedded;
use super::{Options, Source, critical_thread, start};
use crate::feed::Update;

type Producer = ThreadedProducer<rdkafka::producer::DefaultProducerContext>;

const DEADLINE: Duration = Duration::from_secs(30);

/// A broker, a producer, and a source with one worker.
struct Rig {
    broker: Embedded,
    producer: Producer,
    source: Source,
    updates: mpsc::Receiver<Update>,
    runtime: tokio::runtime::Runtime,
}

fn topics() -> Vec<Topic> {
    vec![Topic { partitions: 2, ..Topic::named("trades", "{key}.trade") }]
}

fn producer(broker: &Embedded) -> Producer {
    ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "100")
        .set("enable.idempotence", "true")
        .create()
        .unwrap()
}

impl Rig {
    fn new(topics: Vec<Topic>, before: impl FnOnce(&Producer)) -> Self {
        let patience = Options::default().patience;
        Self::with(topics, patience, |_, producer| before(producer))
    }

    fn with(topics: Vec<Topic>, patience: Duration, before: impl FnOnce(&Embedded, &Producer)) -> Self {
        let named = topics.iter().filter(|topic| !topic.name.starts_with("later")).cloned().collect::<Vec<_>>();
        let broker = Embedded::start(&named).unwrap();
        let producer = producer(&broker);
        before(&broker, &producer);
        producer.flush(DEADLINE).unwrap();
        let (worker, updates) = mpsc::channel(64);
        let options = Options { brokers: vec![broker.bootstrap().to_owned()], patience, ..Options::default() };
        let spec = Kafka { topics, ..Kafka::default() };
        let source = start(&spec, &options, vec![worker]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { broker, producer, source, updates, runtime }
    }

    fn next(&mut self) -> Update {
        let update = self.runtime.block_on(async { tokio::time::timeout(DEADLINE, self.updates.recv()).await });
        update.unwrap_or_else(|_| panic!("nothing came: {:?}", self.source.status())).unwrap()
    }

    /// The next `n` records, and the other updates before the last of them.
    fn records(&mut self, n: usize) -> (Vec<String>, Vec<Update>) {
        let (mut records, mut others) = (Vec::new(), Vec::new());
        while records.len() < n {
            match self.next() {
                Update::Records(batch) => records.extend(batch.iter().map(|record| text(record))),
                other => others.push(other),
            }
        }
        (records, others)
    }

    fn until_filled(&mut self) -> (Vec<String>, usize) {
        let (mut records, mut begun) = (Vec::new(), 0);
        loop {
            match self.next() {
                Update::Records(batch) => records.extend(batch.iter().map(|record| text(record))),
                Update::Begin { lost, .. } => {
                    assert!(!lost);
                    begun += 1;
                }
                Update::Filled => return (records, begun),
            }
        }
    }

    fn wait_for(&self, what: &str, condition: impl Fn(&crate::KafkaCheck) -> bool) {
        let end = std::time::Instant::now() + DEADLINE;
        while !condition(&self.source.status()) {
            assert!(std::time::Instant::now() < end, "{what}: {:?}", self.source.status());
            std::thread::yield_now();
        }
    }
}

fn text(record: &Record) -> String {
    let json: serde_json::Value = serde_json::from_slice(record.payload()).unwrap();
    format!("{} {}", record.channel, json["data"])
}

fn send(producer: &Producer, topic: &str, key: Option<&str>, value: &str) {
    let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).payload(value);
    if let Some(key) = key {
        record = record.key(key);
    }
    producer.send(record).map_err(|(error, _)| error).unwrap();
}

#[test]
fn fills_the_window_then_continues_live() {
    let mut rig = Rig::new(topics(), |producer| {
        for n in 0..100 {
            send(producer, "trades", Some(["BTC", "ETH"][n % 2]), &n.to_string());
        }
    });
    let (records, begun) = rig.until_filled();
    assert_eq!((records.len(), begun), (100, 2));
    rig.wait_for("connected", |status| {
        status.status == KafkaStatus::Connected && status.lag == 0 && status.error.is_none()
    });
    for n in 100..110 {
        send(&rig.producer, "trades", Some("BTC"), &n.to_string());
    }
    let (live, _) = rig.records(10);
    assert_eq!(live, (100..110).map(|n| format!("BTC.trade {n}")).collect::<Vec<_>>());
}

#[test]
fn links_each_message_to_its_predecessor() {
    let mut rig = Rig::new(topics(), |_| {});
    rig.until_filled();
    for n in 0..20 {
        send(&rig.producer, "trades", Some(["BTC", "ETH", "SOL"][n % 3]), "{}");
    }
    let mut last = std::collections::HashMap::new();
    let mut seen = 0;
    while seen < 20 {
        let Update::Records(batch) = rig.next() else { panic!("no record") };
        for record in batch {
            assert_eq!(record.prev, last.insert(record.channel.clone(), record.position), "{}", record.channel);
            seen += 1;
        }
    }
}

#[test]
fn sends_the_same_updates_to_every_worker() {
    let broker = Embedded::start(&topics()).unwrap();
    let producer = producer(&broker);
    let options = Options { brokers: vec![broker.bootstrap().to_owned()], ..Options::default() };
    let (workers, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::channel(64)).unzip();
    let _source = start(&Kafka { topics: topics(), ..Kafka::default() }, &options, workers).unwrap();
    for n in 0..500 {
        send(&producer, "trades", Some(&format!("k{}", n % 7)), &n.to_string());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let heard: Vec<Vec<String>> = receivers
        .into_iter()
        .map(|mut updates| {
            let mut heard = Vec::new();
            while heard.iter().filter(|line: &&String| line.contains("trade ")).count() < 500 {
                let update = runtime.block_on(async { tokio::time::timeout(DEADLINE, updates.recv()).await });
                match update.unwrap().unwrap() {
                    Update::Records(batch) => heard.extend(batch.iter().map(|record| text(record))),
                    other => heard.push(format!("{other:?}")),
                }
            }
            heard
        })
        .collect();
    assert!(heard[0] == heard[1] && heard[1] == heard[2]);
}

#[test]
fn skips_and_reports_bad_records_while_others_flow() {
    let mut rig = Rig::new(topics(), |_| {});
    rig.until_filled();
    send(&rig.producer, "trades", None, "no key");
    send(&rig.producer, "trades", Some(&"x".repeat(65_536)), "long channel");
    send(&rig.producer, "trades", Some("BTC"), &"x".repeat(300_000));
    let headers = OwnedHeaders::new().insert(Header { key: "h", value: Some(&[0xff_u8][..]) });
    rig.producer
        .send(BaseRecord::<str, str>::to("trades").key("BTC").payload("good").headers(headers))
        .map_err(|(error, _)| error)
        .unwrap();
    assert_eq!(rig.records(1).0, ["BTC.trade \"good\""]);
    rig.wait_for("complaints", |status| {
        let error = status.error.clone().unwrap_or_default();
        ["no key", "above 256 bytes", "larger than"].iter().all(|text| error.contains(text))
    });
}

#[test]
fn continues_at_the_next_offset_when_the_broker_is_back() {
    let mut rig = Rig::new(topics(), |_| {});
    rig.until_filled();
    send(&rig.producer, "trades", Some("BTC"), "0");
    rig.records(1);
    for round in 1..=3 {
        rig.broker.set_up(false).unwrap();
        rig.wait_for("disconnected", |status| status.status == KafkaStatus::Disconnected && status.error.is_some());
        for n in 0..10 {
            send(&rig.producer, "trades", Some("BTC"), &(round * 10 + n).to_string());
        }
        rig.broker.set_up(true).unwrap();
        let (records, others) = rig.records(10);
        assert_eq!(records, (0..10).map(|n| format!("BTC.trade {}", round * 10 + n)).collect::<Vec<_>>());
        assert!(others.is_empty(), "{others:?}");
        rig.wait_for("connected", |status| status.status == KafkaStatus::Connected && status.error.is_none());
    }
}

#[test]
fn survives_error_responses_of_the_broker() {
    let mut rig = Rig::new(topics(), |_| {});
    rig.until_filled();
    let errors = [
        E::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        E::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        E::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
        E::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        E::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        E::RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    for (at, error) in errors.into_iter().enumerate() {
        rig.broker.fail_next(RDKafkaApiKey::Fetch, &[error, error]);
        let values: Vec<String> = (0..5).map(|n| (at * 5 + n).to_string()).collect();
        for value in &values {
            send(&rig.producer, "trades", Some("BTC"), value);
        }
        let expected: Vec<String> = values.iter().map(|value| format!("BTC.trade {value}")).collect();
        assert_eq!(rig.records(5).0, expected, "{error:?}");
    }
}

/// `patience` of these tests.
const PATIENCE: Duration = Duration::from_millis(300);

fn send_to(producer: &Producer, partition: i32, value: &str) {
    producer
        .send(BaseRecord::to("trades").partition(partition).key("BTC").payload(value))
        .map_err(|(error, _)| error)
        .unwrap();
}

#[test]
fn starts_without_a_leaderless_partition_and_reports_a_loss_when_it_gets_a_leader() {
    let mut rig = Rig::with(topics(), PATIENCE, |broker, producer| {
        send_to(producer, 0, "0");
        send_to(producer, 1, "1");
        producer.flush(DEADLINE).unwrap();
        broker.set_led("trades", 1, false).unwrap();
    });
    assert_eq!(rig.until_filled(), (vec!["BTC.trade 0".to_owned()], 1));
    rig.wait_for("named", |status| {
        status.status == KafkaStatus::Connected
            && status.error.as_deref().is_some_and(|error| error.contains("partition trades [1] has no leader"))
    });
    send_to(&rig.producer, 0, "2");
    assert_eq!(rig.records(1).0, ["BTC.trade 2"]);

    rig.broker.set_led("trades", 1, true).unwrap();
    let (records, others) = rig.records(1);
    assert_eq!(records, ["BTC.trade 1"]);
    assert!(
        matches!(&others[..], [Update::Begin { partition, lost: true, .. }] if partition.number == 1),
        "{others:?}"
    );
    rig.wait_for("over", |status| status.error.is_none());
}

#[test]
fn waits_for_a_leader_and_reads_the_whole_history() {
    let mut rig = Rig::with(topics(), DEADLINE, |broker, producer| {
        send_to(producer, 0, "0");
        send_to(producer, 1, "1");
        producer.flush(DEADLINE).unwrap();
        broker.set_led("trades", 1, false).unwrap();
    });
    rig.wait_for("waits", |status| {
        status.status == KafkaStatus::Filling
            && status.error.as_deref().is_some_and(|error| error.contains("has no leader"))
    });
    rig.broker.set_led("trades", 1, true).unwrap();
    let (mut records, begun) = rig.until_filled();
    records.sort();
    assert_eq!((records, begun), (vec!["BTC.trade 0".to_owned(), "BTC.trade 1".to_owned()], 2));
}

#[test]
fn starts_without_unreadable_records_and_reads_them_later() {
    let mut rig = Rig::with(topics(), PATIENCE, |broker, producer| {
        send_to(producer, 1, "1");
        producer.flush(DEADLINE).unwrap();
        broker.fail_next(RDKafkaApiKey::Fetch, &vec![E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 10_000]);
    });
    assert_eq!(rig.until_filled(), (vec![], 2));
    rig.wait_for("named", |status| {
        status.status == KafkaStatus::Connected
            && status.error.as_deref().is_some_and(|error| error.contains("records of trades [1] do not come"))
    });
    rig.broker.fail_next(RDKafkaApiKey::Fetch, &[]);
    assert_eq!(rig.records(1).0, ["BTC.trade 1"]);
    rig.wait_for("over", |status| !status.error.as_deref().unwrap_or_default().contains("do not come"));
}

#[test]
fn reads_every_topic_although_one_could_not_be_located_at_first() {
    let topics = ["a", "b"].map(|name| Topic { partitions: 1, ..Topic::named(name, format!("{name}.{{key}}")) });
    let mut rig = Rig::with(topics.to_vec(), DEADLINE, |broker, producer| {
        for topic in ["a", "b"] {
            send(producer, topic, Some("k"), "1");
        }
        producer.flush(DEADLINE).unwrap();
        // The first topic is asked for its end, by time, for its beginning, and by time again; then comes the second.
        let good = E::RD_KAFKA_RESP_ERR_NO_ERROR;
        let bad = E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        broker.fail_next(RDKafkaApiKey::ListOffsets, &[good, good, good, good, bad]);
    });
    let (mut records, begun) = rig.until_filled();
    records.sort();
    assert_eq!((records, begun), (vec!["a.k 1".to_owned(), "b.k 1".to_owned()], 2));
}

#[test]
fn a_panic_of_a_thread_sets_broken() {
    let options = Options::default();
    critical_thread("kafka-well", &options.broken, || {}).unwrap();
    critical_thread("kafka-ill", &options.broken, || panic!("as it should")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = async { tokio::time::timeout(DEADLINE, options.broken.wait()).await };
    runtime.block_on(told).expect("it is not told");
}

#[test]
fn starts_when_the_broker_does() {
    let broker = Embedded::start(&topics()).unwrap();
    broker.set_up(false).unwrap();
    let (worker, updates) = mpsc::channel(64);
    let options = Options { brokers: vec![broker.bootstrap().to_owned()], ..Options::default() };
    let source = start(&Kafka { topics: topics(), ..Kafka::default() }, &options, vec![worker]).unwrap();
    let producer = producer(&broker);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut rig = Rig { broker, producer, source, updates, runtime };
    rig.wait_for("an error", |status| status.status == KafkaStatus::Disconnected && status.error.is_some());
    rig.broker.set_up(true).unwrap();
    assert_eq!(rig.until_filled(), (vec![], 2));
}

#[test]
fn reads_a_topic_from_its_beginning_when_it_is_created_later() {
    let mut topics = topics();
    topics.push(Topic { partitions: 1, ..Topic::named("later", "{topic}") });
    topics.push(Topic { pattern: Some("lat.*ly".into()), ..Topic::named("", "{topic}/{key}") });
    let mut rig = Rig::new(topics, |_| {});
    assert_eq!(rig.until_filled().1, 2);
    rig.wait_for("missing", |status| status.error.as_deref().is_some_and(|e| e.contains("topic later does not exist")));
    rig.broker.create_topic("later", 1).unwrap();
    send(&rig.producer, "later", None, "first");
    let (records, others) = rig.records(1);
    assert_eq!(records, ["later \"first\""]);
    assert!(matches!(&others[..], [Update::Begin { from: 0, lost: false, .. }]), "{others:?}");
    rig.wait_for("over", |status| status.error.is_none());
    rig.broker.create_topic("lately", 1).unwrap();
    send(&rig.producer, "lately", Some("k"), "1");
    assert_eq!(rig.records(1).0, ["lately/k 1"]);
}

#[test]
fn a_slow_worker_makes_lag_grow_and_loses_nothing() {
    let mut rig = Rig::new(topics(), |_| {});
    rig.until_filled();
    let mut sent = 0;
    // Until the channel of 64 updates is full and the log runs ahead.
    while rig.source.status().lag < 100 {
        for _ in 0..100 {
            send(&rig.producer, "trades", Some("BTC"), &sent.to_string());
            sent += 1;
        }
        rig.producer.flush(DEADLINE).unwrap();
        assert!(sent < 1_000_000, "no lag");
    }
    rig.wait_for("all of it is seen", |status| status.lag == sent as u64);
    rig.wait_for("said to be late", |status| status.error.as_ref().is_some_and(|error| error.contains("are late")));
    let (records, _) = rig.records(sent);
    assert!(records.iter().enumerate().all(|(n, text)| *text == format!("BTC.trade {n}")));
    rig.wait_for("caught up", |status| status.lag == 0 && status.error.is_none());
}

#[test]
fn refuses_invalid_topics_and_properties() {
    let refused = |spec: Kafka| start(&spec, &Options::default(), vec![]).unwrap_err().to_string();
    assert!(refused(Kafka::default()).contains("source.kafka.brokers is empty"));
    let properties = [("no.such.property".to_owned(), "1".to_owned())].into();
    let error = refused(Kafka { brokers: vec!["127.0.0.1:1".into()], properties, ..Kafka::default() });
    assert!(error.contains("no.such.property"), "{error}");
}
