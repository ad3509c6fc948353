//! The two subjects: our shard, which reads from Kafka, and the bare loop of `send` calls.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::backend::{Address, Push, Sent};
use crate::bail;
use crate::broker::{Broker, Publisher};
use crate::child::Child;
use crate::cpu::Cpu;
use crate::error::{Doing as _, Result};
use crate::fleet::{Door, Fleet};
use crate::ours::{self, Binary, Manifest, TOPIC, subscribe};

/// Key of the one channel to which all clients subscribe.
const KEY: &str = "b";

/// Counter of the shard's writes to clients.
const WRITES: &str = "wscluster_shard_socket_writes_total";

/// Records to fan out.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Load {
    /// Number of records.
    pub records: usize,
    /// Records per second; infinity makes the bare loop send without a pause.
    pub per_second: f64,
    /// Records that are due at the same instant.
    pub burst: usize,
    /// Bytes of a record's value.
    pub len: usize,
}

/// The cost of a load.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Deliveries: records times subscribers.
    pub deliveries: u64,
    /// CPU seconds of the process.
    pub cpu: f64,
    /// CPU seconds of its Kafka client: librdkafka's threads and the thread that reads from it.
    pub kafka_cpu: f64,
    /// Messages per write; above 1 if several were due together.
    pub per_write: f64,
    /// Seconds from the first record to the last delivery.
    pub seconds: f64,
    /// CPU seconds by thread.
    pub threads: BTreeMap<String, f64>,
}

impl Cost {
    /// Deliveries per CPU-second, including Kafka and everything else.
    pub fn per_cpu_second(&self) -> f64 {
        self.deliveries as f64 / self.cpu
    }

    /// The same without the Kafka client.
    pub fn per_worker_second(&self) -> f64 {
        self.deliveries as f64 / (self.cpu - self.kafka_cpu)
    }
}

/// Our shard, its broker and its subscribers.
pub struct Shard {
    /// The shard's process.
    pub child: Child,
    /// The shard's subscribers.
    pub fleet: Fleet,
    admin: SocketAddr,
    publisher: Publisher,
    subscribers: usize,
    _broker: Broker,
    _folder: TempDir,
}

impl Shard {
    /// Starts a shard with a coalescing delay. `linger` applies to the producer. `fetch_wait_ms` is the longest time
    /// that the embedded broker delays a record: unlike a real broker, it answers a waiting fetch only after that time.
    pub async fn start(binary: &Binary, coalesce_ms: u32, linger: Duration, fetch_wait_ms: u32) -> Result<Self> {
        let folder = TempDir::with_prefix("wscluster-bench-").doing("create a folder")?;
        let broker = Broker::start()?;
        let manifest = Manifest { coalesce_ms, fetch_wait_ms: Some(fetch_wait_ms), ..Manifest::default() };
        let (child, address) = binary.shard(folder.path(), &manifest, 0, &broker.address(), crate::SUBJECT_CPU).await?;
        let fleet = Fleet::new(Door { hellos: vec![subscribe(KEY)], ..Door::at(address.ws) });
        let publisher = Publisher::connect(&broker.address(), TOPIC, linger)?;
        Ok(Self { child, fleet, admin: address.admin, publisher, subscribers: 0, _broker: broker, _folder: folder })
    }

    /// Adds subscribers until there are `n`.
    pub async fn grow(&mut self, n: usize) -> Result<()> {
        let more = n - self.subscribers;
        let answers = self.fleet.counts().messages.get() + more as u64;
        self.fleet.add(more, 2_000.0).await?;
        if !self.fleet.received(answers, Duration::from_secs(10)).await {
            bail!("{more} subscriptions were not all acknowledged");
        }
        self.subscribers = n;
        Ok(())
    }

    /// Bytes on the wire of a message whose record's value has `len` bytes.
    pub async fn frame_len(&mut self, len: usize) -> Result<usize> {
        let bytes = self.fleet.counts().bytes.get();
        self.run(Load { records: 10, per_second: 20.0, burst: 1, len }).await?;
        Ok((self.fleet.counts().bytes.get() - bytes) as usize / 10 / self.subscribers)
    }

    /// Publishes `load` and waits for the last delivery.
    pub async fn run(&mut self, load: Load) -> Result<Cost> {
        let (fleet, pid) = (&self.fleet, self.child.pid());
        let deliveries = (load.records * self.subscribers) as u64;
        let publish = self.publisher.publish(&[KEY], load.len, load.records, load.per_second, load.burst);
        let before = ours::counter(self.admin, WRITES).await?;
        let mut cost = measure(fleet, pid, deliveries, publish).await?;
        // The worker counts a write just after the client has received it.
        sleep(Duration::from_millis(50)).await;
        cost.per_write = deliveries as f64 / (ours::counter(self.admin, WRITES).await? - before) as f64;
        Ok(cost)
    }
}

/// The bare loop and its receivers.
pub struct Bare {
    child: Child,
    fleet: Fleet,
    receivers: usize,
}

impl Bare {
    /// Starts the loop on the subject's CPU.
    pub async fn start() -> Result<Self> {
        let this = std::env::current_exe().doing("find this program")?.display().to_string();
        let mut child = Child::start("send-loop", Some(crate::SUBJECT_CPU), &this, &["backend"])?;
        let [address]: [Address; 1] = child.line(Duration::from_secs(5)).await?;
        Ok(Self { child, fleet: Fleet::new(Door::at(address.ws)), receivers: 0 })
    }

    /// Adds receivers until there are `n`.
    pub async fn grow(&mut self, n: usize) -> Result<()> {
        self.fleet.add(n - self.receivers, 2_000.0).await?;
        self.receivers = n;
        Ok(())
    }

    /// Sends `load` in frames of `frame_len` bytes, including the header.
    pub async fn run(&mut self, load: Load, frame_len: usize) -> Result<Cost> {
        let header = if frame_len < 128 { 2 } else { 4 };
        let pace = load.per_second.is_finite().then_some(load.per_second);
        let push =
            Push { records: load.records, per_second: pace, burst: load.burst, len: frame_len - header, spread: false };
        let pid = self.child.pid();
        let child = &mut self.child;
        let sending = async { child.ask::<Sent>(&json!(push), Duration::from_mins(1)).await.map(|_| ()) };
        measure(&self.fleet, pid, (load.records * self.receivers) as u64, sending).await
    }
}

async fn measure(fleet: &Fleet, pid: u32, deliveries: u64, work: impl Future<Output = Result<()>>) -> Result<Cost> {
    // Work that the previous case left behind must not count here.
    sleep(Duration::from_millis(200)).await;
    let messages = fleet.counts().messages.get();
    let (before, began) = (Cpu::of(pid)?, std::time::Instant::now());
    work.await?;
    if !fleet.received(messages + deliveries, Duration::from_secs(30)).await || fleet.counts().lost() > 0 {
        let got = fleet.counts().messages.get() - messages;
        bail!("{got} of {deliveries} messages came; connections lost: {:?}", fleet.counts().lost.borrow());
    }
    let used = Cpu::of(pid)?.since(&before);
    Ok(Cost {
        deliveries,
        cpu: used.total().as_secs_f64(),
        kafka_cpu: (used.threads("rdk") + used.threads("kafka")).as_secs_f64(),
        per_write: 1.0,
        seconds: began.elapsed().as_secs_f64(),
        threads: used.by_thread(),
    })
}
