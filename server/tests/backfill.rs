//! Recovery beyond a shard's memory: the shard replays missed records from Kafka, and then continues with live ones.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::cell::Cell;
use std::collections::HashMap;
use std::io::BufRead as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use wscluster_api::spec::Topic;
use wscluster_kafka::embedded::Embedded;

const PATIENCE: Duration = Duration::from_secs(30);

/// A broker, a producer, and a shard.
struct Rig {
    shard: Child,
    ws: String,
    producer: ThreadedProducer<DefaultProducerContext>,
    broker: Option<Embedded>,
    _dir: tempfile::TempDir,
}

impl Rig {
    /// A shard whose memory holds some 50 records of 1 kB.
    fn new() -> Self {
        Self::with("maxBytes: 64Ki", "channel: '{key}'")
    }

    fn with(history: &str, topic: &str) -> Self {
        let broker = Embedded::start(&[Topic { partitions: 2, ..Topic::named("trades", "{key}") }]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cluster.yaml");
        // A large queue, because clients do not read while the test publishes.
        let manifest = format!(
            "apiVersion: wscluster.dev/v1alpha1\nkind: WsCluster\nmetadata: {{ name: t }}\nspec: {{ capacity: 100, \
             delivery: {{ maxQueueBytes: 16Mi }}, source: {{ kafka: {{ history: {{ {history} }}, \
             topics: [{{ name: trades, {topic} }}] }} }} }}\n"
        );
        std::fs::write(&file, manifest).unwrap();
        let mut shard = Command::new(env!("CARGO_BIN_EXE_wscluster"))
            .args([
                "shard",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--workers",
                "1",
                "--exit-with-parent",
            ])
            .args(["--brokers", broker.bootstrap(), "-f"])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufReader::new(shard.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let announced: Value = serde_json::from_str(&line).unwrap();
        let ws = format!("ws://{}/ws", announced["listening"]["ws"].as_str().unwrap());
        let producer = ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create().unwrap();
        Self { shard, ws, producer, broker: Some(broker), _dir: dir }
    }

    fn publish(&self, keys: &[&str], count: usize) {
        let value = format!("\"{}\"", "x".repeat(1_000));
        for n in 0..count {
            let record = BaseRecord::to("trades").key(keys[n % keys.len()]).payload(&value);
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.producer.flush(PATIENCE).unwrap();
    }

    /// A subscribed client, and the acknowledgement.
    async fn subscribe(&self, since: Value) -> (Client, Value) {
        let started = std::time::Instant::now();
        let socket = loop {
            // 503 until the shard is ready.
            match tokio_tungstenite::connect_async(&self.ws).await {
                Ok((socket, _)) => break socket,
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
            }
        };
        let mut client = Client(socket);
        let subscribe = json!({ "type": "subscribe", "data": { "channels": ["BTC"], "since": since } });
        client.0.send(Message::text(subscribe.to_string())).await.unwrap();
        let ack = client.next().await;
        assert_eq!(ack["type"], "subscription_ack");
        (client, ack)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.shard.kill();
        let _ = self.shard.wait();
    }
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a message in time");
            if let Message::Text(text) = message.unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// The next `count` messages. Asserts that each follows the one before.
    async fn follow(&mut self, last: &mut String, count: usize) -> Vec<Value> {
        let mut messages = Vec::new();
        for _ in 0..count {
            let message = self.next().await;
            assert_eq!(message["prev"], **last, "{message}");
            message["pos"].as_str().unwrap().clone_into(last);
            messages.push(message);
        }
        messages
    }
}

#[tokio::test]
async fn replays_records_that_left_the_window_and_continues_live() {
    let rig = Rig::new();
    let (mut live, _) = rig.subscribe(json!({})).await;
    rig.publish(&["BTC"], 1);
    let first = live.next().await["pos"].as_str().unwrap().to_owned();
    let mut last = first.clone();
    rig.publish(&["BTC", "ETH", "SOL"], 600);
    let seen = live.follow(&mut last, 200).await;

    for _ in 0..3 {
        let (mut back, ack) = rig.subscribe(json!({ "BTC": first })).await;
        assert_eq!(ack["recovered"], json!({ "BTC": true }), "{ack}");
        let mut at = first.clone();
        let replayed = back.follow(&mut at, 200).await;
        for (replayed, seen) in replayed.into_iter().zip(&seen) {
            let mut replayed = replayed;
            assert_eq!(replayed.as_object_mut().unwrap().remove("replayed"), Some(json!(true)));
            assert_eq!(replayed, *seen);
        }
        rig.publish(&["BTC"], 1);
        back.follow(&mut at, 1).await;
    }
}

#[tokio::test]
async fn replays_the_gap_of_an_unsendable_record_as_it_was_live() {
    let rig = Rig::with("maxBytes: 64Ki", "channel: '{key}', record: { value: json }");
    let (mut live, _) = rig.subscribe(json!({})).await;
    rig.publish(&["BTC"], 1);
    let first = live.next().await["pos"].clone();
    for payload in ["0", "no JSON", "1"] {
        rig.producer.send(BaseRecord::to("trades").key("BTC").payload(payload)).map_err(|(error, _)| error).unwrap();
    }
    rig.publish(&["BTC"], 200);
    let mut seen = Vec::new();
    for _ in 0..202 {
        seen.push(live.next().await);
    }
    assert_ne!(seen[1]["prev"], seen[0]["pos"], "a record between them was skipped");

    let (mut back, ack) = rig.subscribe(json!({ "BTC": first })).await;
    assert_eq!(ack["recovered"], json!({ "BTC": true }), "{ack}");
    for seen in seen {
        let mut replayed = back.next().await;
        assert_eq!(replayed.as_object_mut().unwrap().remove("replayed"), Some(json!(true)));
        assert_eq!(replayed, seen);
    }
}

#[tokio::test]
async fn replay_joins_live_records_without_gaps_or_duplicates_under_load() {
    let rig = Rig::new();
    let (mut live, _) = rig.subscribe(json!({})).await;
    rig.publish(&["BTC"], 1);
    let first = live.next().await["pos"].as_str().unwrap().to_owned();
    rig.publish(&["BTC"], 500);
    let mut last = first.clone();
    live.follow(&mut last, 500).await;
    for round in 0..10 {
        let (joined, ()) = tokio::join!(rig.subscribe(json!({ "BTC": first })), async { rig.publish(&["BTC"], 20) });
        let (mut back, ack) = joined;
        assert_eq!(ack["recovered"], json!({ "BTC": true }), "{ack}");
        let mut at = first.clone();
        back.follow(&mut at, 500 + (round + 1) * 20).await;
    }
}

/// The last position received from each partition.
#[derive(Default)]
struct Seen(HashMap<String, String>);

impl Seen {
    /// Receives `count` messages. Asserts that each follows the last one of its partition.
    async fn follow(&mut self, client: &mut Client, count: usize) {
        for _ in 0..count {
            let message = client.next().await;
            let pos = message["pos"].as_str().unwrap();
            let (partition, _) = pos.rsplit_once('-').unwrap();
            if let Some(last) = self.0.insert(partition.to_owned(), pos.to_owned()) {
                assert_eq!(message["prev"], *last, "{message}");
            }
        }
    }

    fn since(&self) -> Value {
        json!({ "BTC": self.0.values().collect::<Vec<_>>() })
    }
}

#[tokio::test]
async fn replays_everything_from_kafka_without_a_window_under_load() {
    const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let rig = Rig::with("window: 0s", "channel: BTC");
    let mut seen = Seen::default();
    let (mut client, _) = rig.subscribe(json!({})).await;
    rig.publish(&KEYS, 40);
    seen.follow(&mut client, 40).await;
    assert_eq!(seen.0.len(), 2, "both partitions feed the channel");
    for _ in 0..5 {
        drop(client);
        rig.publish(&KEYS, 40);
        let poured = Cell::new(0);
        let pour = async {
            loop {
                rig.publish(&KEYS, KEYS.len());
                poured.set(poured.get() + KEYS.len());
                tokio::task::yield_now().await;
            }
        };
        let (back, ack) = tokio::select! {
            joined = rig.subscribe(seen.since()) => joined,
            () = pour => unreachable!(),
        };
        assert_eq!(ack["recovered"], json!({ "BTC": true }), "{ack}");
        client = back;
        seen.follow(&mut client, 40 + poured.get()).await;
    }
}

#[tokio::test]
async fn reports_unavailable_when_no_broker_answers() {
    let mut rig = Rig::new();
    let (mut live, _) = rig.subscribe(json!({})).await;
    rig.publish(&["BTC"], 1);
    let first = live.next().await["pos"].as_str().unwrap().to_owned();
    rig.publish(&["BTC"], 200);
    live.follow(&mut first.clone(), 200).await;
    rig.broker = None;
    let (_, ack) = rig.subscribe(json!({ "BTC": first })).await;
    assert_eq!(ack["reason"], json!({ "BTC": "unavailable" }), "{ack}");
}

#[tokio::test]
async fn reports_too_old_when_kafka_no_longer_has_the_records() {
    let rig = Rig::new();
    let (mut live, _) = rig.subscribe(json!({})).await;
    rig.publish(&["BTC"], 1);
    let first = live.next().await["pos"].as_str().unwrap().to_owned();
    // The embedded broker keeps 5 MiB of each partition.
    let mut last = first.clone();
    for _ in 0..14 {
        rig.publish(&["BTC"], 500);
        live.follow(&mut last, 500).await;
    }
    let (_, ack) = rig.subscribe(json!({ "BTC": first })).await;
    assert_eq!((&ack["recovered"], &ack["reason"]), (&json!({ "BTC": false }), &json!({ "BTC": "too_old" })));
}
