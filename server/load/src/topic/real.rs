//! A topic that changes while it is followed, which the embedded broker does not support. Needs real brokers:
//! `tests/kafka/run cargo test -p wscluster-load --lib topic::real -- --ignored`.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use super::*;

const DEADLINE: Duration = Duration::from_mins(1);

/// A topic of its own on the real brokers.
struct Rig {
    topic: Topic,
    runtime: tokio::runtime::Runtime,
    admin: AdminClient<DefaultClientContext>,
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Rig {
    fn new() -> Self {
        let brokers = std::env::var("KAFKA_BROKERS").expect("KAFKA_BROKERS is not set: run this by tests/kafka/run");
        let name = format!("follower-{:08x}", rand::random::<u32>());
        let template = Template::parse("{key}", &name).unwrap();
        let channels = vec!["a".to_owned()];
        let topic = Topic { brokers, properties: Vec::new(), name, template, channels };
        let config = topic.config();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let rig = Self { topic, runtime, admin: config.create().unwrap(), producer: config.create().unwrap() };
        rig.create();
        rig
    }

    fn create(&self) {
        let new = NewTopic::new(&self.topic.name, 1, TopicReplication::Fixed(1));
        let end = Instant::now() + DEADLINE;
        // A topic that is being deleted cannot be created yet.
        while let Err(error) =
            &self.runtime.block_on(self.admin.create_topics([&new], &AdminOptions::new())).unwrap()[0]
        {
            assert!(Instant::now() < end, "{error:?}");
        }
        // Nor is a new one known at once.
        let known =
            |topic: &rdkafka::metadata::MetadataTopic| topic.error().is_none() && !topic.partitions().is_empty();
        while !self
            .producer
            .client()
            .fetch_metadata(Some(&self.topic.name), DEADLINE)
            .unwrap()
            .topics()
            .iter()
            .any(known)
        {
            assert!(Instant::now() < end, "the topic does not come");
        }
    }

    fn send(&self, partition: i32, count: usize) {
        for _ in 0..count {
            let record = BaseRecord::to(&self.topic.name).partition(partition).key("a").payload("1");
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.producer.flush(DEADLINE).unwrap();
    }
}

#[test]
#[ignore = "needs a real Kafka"]
fn reads_partitions_that_are_added_under_way() {
    let rig = Rig::new();
    rig.send(0, 5);
    let follower = rig.topic.follow().unwrap();
    rig.send(0, 3);
    let more = [NewPartitions::new(&rig.topic.name, 3)];
    rig.runtime.block_on(rig.admin.create_partitions(&more, &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
    let end = Instant::now() + DEADLINE;
    let count = || {
        let metadata = rig.producer.client().fetch_metadata(Some(&rig.topic.name), DEADLINE).unwrap();
        metadata.topics()[0].partitions().len()
    };
    while count() < 3 {
        assert!(Instant::now() < end, "the partitions do not come");
    }
    rig.send(1, 2);
    rig.send(2, 2);
    assert_eq!(follower.finish().unwrap().len(), 7);
}

#[test]
#[ignore = "needs a real Kafka"]
fn says_that_the_topic_was_recreated() {
    let rig = Rig::new();
    let follower = rig.topic.follow().unwrap();
    rig.send(0, 3);
    rig.runtime.block_on(rig.admin.delete_topics(&[&rig.topic.name], &AdminOptions::new())).unwrap();
    rig.create();
    rig.send(0, 9);
    let error = follower.finish().expect_err("it is another topic").to_string();
    assert!(error.contains("deleted and created anew"), "{error}");
}

#[test]
#[ignore = "needs a real Kafka"]
fn says_that_the_topic_is_gone() {
    let rig = Rig::new();
    let follower = rig.topic.follow().unwrap();
    rig.send(0, 3);
    rig.runtime.block_on(rig.admin.delete_topics(&[&rig.topic.name], &AdminOptions::new())).unwrap();
    let error = follower.finish().expect_err("there is no topic").to_string();
    assert!(error.contains("deleted"), "{error}");
}
