//! Tests of a whole shard in this process over real sockets. Clients are tungstenite, an independent implementation,
//! or plain TCP for invalid input. A feed replaces Kafka.

#![allow(clippy::float_cmp)] // counters are whole numbers

mod admission;
mod bad_input;
mod draining;
mod ending;
mod fairness;
mod protocol;
mod slow;
mod topics;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use wscluster_kafka::feed::Update;
use wscluster_protocol::{Draft, Epoch, Partition, Position, Record};

use super::metrics::Metrics;
use super::server::Server;
use super::settings::Settings;
use super::shared::Shared;
use super::worker::Worker;

/// Time limit of each wait.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// Polls until `condition` holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

struct Rig {
    server: Server,
    feeds: Vec<mpsc::Sender<Update>>,
    registry: Registry,
    /// The offset after the last record published.
    next: i64,
}

/// A message that makes the shard panic when it is read.
pub(super) const PANIC: &str = "panic";

const PARTITION: Partition = Partition { epoch: Epoch(0xab), number: 0 };

fn settings() -> Settings {
    let text = "apiVersion: wscluster.dev/v1alpha1\nkind: WsCluster\nmetadata: { name: t }\n\
                spec: { capacity: 100, source: { kafka: { topics: [{ name: odin.trades, channel: '{key}.trade' }] } } }\n";
    let cluster = wscluster_api::manifest::parse(text, std::path::Path::new("test.yaml")).unwrap();
    Settings::new("prices-0", &cluster.spec)
}

/// The only worker of a shard that accepts no connections.
pub(super) fn worker() -> (Rc<RefCell<Worker>>, Arc<Shared>) {
    let shared = Shared::new(settings(), Metrics::register(&mut Registry::default()), 1);
    (Worker::new(0, Arc::clone(&shared)), shared)
}

impl Rig {
    /// A ready shard with default settings after `change`.
    async fn start(workers: usize, change: impl FnOnce(&mut Settings)) -> Self {
        let mut rig = Self::start_unfilled(workers, change);
        rig.feed(Update::Begin { partition: PARTITION, topic: "odin.trades".into(), from: 0, lost: false }).await;
        rig.feed(Update::Filled).await;
        let shared = Arc::clone(&rig.server.shared);
        until("ready", || shared.state() != wscluster_admin::health::State::Starting).await;
        rig
    }

    fn start_unfilled(workers: usize, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        let mut registry = Registry::default();
        let mut server = Server::start(settings, ([127, 0, 0, 1], 0).into(), workers, &mut registry).unwrap();
        let feeds = std::mem::take(&mut server.feeds);
        Self { server, feeds, registry, next: 0 }
    }

    async fn feed(&mut self, update: Update) {
        for feed in &self.feeds {
            feed.send(update.clone()).await.unwrap();
        }
    }

    /// Publishes a record with `data` and returns its position.
    async fn publish(&mut self, channel: &str, data: Value) -> Position {
        let record = self.record(channel, &data);
        let position = record.position;
        self.feed(Update::Records(vec![record])).await;
        position
    }

    fn record(&mut self, channel: &str, data: &Value) -> Arc<Record> {
        let position = Position { partition: PARTITION, offset: self.next };
        self.next += 1;
        let data = format!("\"data\":{data}");
        let draft = Draft { kind: "price:update", priority: 1, data: data.as_bytes() };
        Arc::new(Record::encode(channel.into(), position, None, super::worker::now_ms(), draft))
    }

    fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.server.addr)
    }

    async fn connect(&self) -> Client {
        Client::connect(&self.url("/ws")).await
    }

    async fn raw(&self) -> TcpStream {
        TcpStream::connect(self.server.addr).await.unwrap()
    }

    /// A plain socket after its 101.
    async fn upgraded(&self, path: &str) -> TcpStream {
        let mut raw = self.raw().await;
        raw.write_all(upgrade(self.server.addr, path).as_bytes()).await.unwrap();
        let head = read_head(&mut raw).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        raw
    }

    fn used(&self) -> u32 {
        self.server.shared.slots.used()
    }

    async fn until_used(&self, slots: u32) {
        until(&format!("{slots} slots in use"), || self.used() == slots).await;
    }

    /// The value of a metric by its `name{labels}` in `/metrics`.
    fn metric(&self, name: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The sum of a metric over its labels.
    fn metric_sum(&self, name: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let values = text
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
        values.sum()
    }
}

/// A valid upgrade request.
fn upgrade(addr: SocketAddr, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Reads up to the empty line, and no further.
async fn read_head(raw: &mut TcpStream) -> String {
    let mut head = Vec::new();
    soon("an answer", async {
        while !head.ends_with(b"\r\n\r\n") {
            match raw.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
    })
    .await;
    String::from_utf8(head).unwrap()
}

/// Reads up to the peer's end or a reset.
async fn read_all(raw: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    soon("the end of the connection", async {
        let _ = raw.read_to_end(&mut all).await;
    })
    .await;
    all
}

/// The next message of a plain socket, which must be an unfragmented text.
async fn read_message(raw: &mut TcpStream) -> Value {
    soon("a message", async {
        let head = [raw.read_u8().await.unwrap(), raw.read_u8().await.unwrap()];
        assert_eq!(head[0], 0x81);
        let len = if head[1] == 126 { raw.read_u16().await.unwrap() } else { head[1].into() };
        let mut payload = vec![0; len.into()];
        raw.read_exact(&mut payload).await.unwrap();
        serde_json::from_slice(&payload).unwrap()
    })
    .await
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn connect(url: &str) -> Self {
        let (socket, _) = soon("a 101", tokio_tungstenite::connect_async(url)).await.unwrap();
        Self(socket)
    }

    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message that is not a ping.
    async fn message(&mut self) -> Message {
        loop {
            let message = soon("a message", self.0.next()).await.expect("not ended").unwrap();
            if !message.is_ping() {
                return message;
            }
        }
    }

    async fn json(&mut self) -> Value {
        match self.message().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("not text: {other:?}"),
        }
    }

    /// The code and reason of the next frame, which must be a Close frame.
    async fn closed(&mut self) -> (u16, String) {
        match self.message().await {
            Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
            other => panic!("not closed but: {other:?}"),
        }
    }

    async fn subscribe(&mut self, channels: &[&str]) -> Value {
        self.send(json!({ "type": "subscribe", "data": { "channels": channels } })).await;
        self.json().await
    }
}
