//! Several topics from a broker: which topics can feed a channel.

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use wscluster_api::spec::{Kafka, Topic};
use wscluster_kafka::embedded::Embedded;
use wscluster_kafka::{self, Options};

use super::*;

#[tokio::test]
async fn a_position_of_a_topic_that_never_feeds_the_channel_is_rejected() {
    let topics = ["a", "b"].map(|name| Topic { partitions: 1, ..Topic::named(name, format!("{{key}}.{name}")) });
    let broker = Embedded::start(&topics).unwrap();
    let rig = Rig::start_unfilled(1, |_| {});
    let options = Options { brokers: vec![broker.bootstrap().to_owned()], ..Options::default() };
    let spec = Kafka { topics: topics.into(), ..Kafka::default() };
    let source = wscluster_kafka::start(&spec, &options, rig.feeds.clone()).unwrap();
    rig.server.shared.backfill.set(source.backfill()).unwrap();
    until("ready", || rig.server.shared.state() != wscluster_admin::health::State::Starting).await;

    let mut client = rig.connect().await;
    client.subscribe(&["K.a", "K.b"]).await;
    let producer: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create().unwrap();
    for topic in ["a", "b"] {
        producer.send(BaseRecord::to(topic).key("K").payload("1")).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    let mut seen = std::collections::HashMap::new();
    for _ in 0..2 {
        let message = client.json().await;
        seen.insert(message["channel"].as_str().unwrap().to_owned(), message["pos"].clone());
    }

    let mut client = rig.connect().await;
    let (a, b) = (&seen["K.a"], &seen["K.b"]);
    let since = json!({ "K.a": b, "QUIET.a": b, "QUIET.b": b, "K.b": [a, b] });
    let data = json!({ "channels": ["K.a", "QUIET.a", "QUIET.b", "K.b"], "since": since });
    client.send(json!({ "type": "subscribe", "data": data })).await;
    let ack = client.json().await;
    let of_another = json!({ "K.a": "epoch", "QUIET.a": "epoch", "K.b": "epoch" });
    assert_eq!((&ack["reason"], &ack["recovered"]["QUIET.b"]), (&of_another, &true.into()), "{ack}");
    let data = json!({ "channels": ["K.a", "K.b"], "since": seen });
    let mut client = rig.connect().await;
    client.send(json!({ "type": "subscribe", "data": data })).await;
    assert_eq!(client.json().await["recovered"], json!({ "K.a": true, "K.b": true }));
}
