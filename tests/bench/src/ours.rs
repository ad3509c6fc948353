//! Starts processes of the `wscluster` binary.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wscluster_admin::client::AdminClient;
use wscluster_admin::health::ShardHealth;

use crate::backend::Address;
use crate::child::Child;
use crate::error::{Doing as _, Error, Result};
use crate::machine::first_line;

/// Time limit for a process to announce its addresses.
const START: Duration = Duration::from_secs(20);

/// Time limit for an answer of an admin port.
const ANSWER: Duration = Duration::from_secs(2);

/// The `wscluster` binary.
#[derive(Clone, Debug)]
pub struct Binary(PathBuf);

#[derive(Deserialize)]
struct Announced {
    listening: Address,
}

impl Binary {
    /// The binary at the given path, or next to this program.
    pub fn find(given: Option<PathBuf>) -> Result<Self> {
        let path = match given {
            Some(path) => path,
            None => std::env::current_exe().doing("find this program")?.with_file_name("wscluster"),
        };
        if path.is_file() {
            return Ok(Self(path));
        }
        Err(Error::Unusable(format!(
            "{} is missing: cargo build --release -p wscluster, or name one by --wscluster",
            path.display()
        )))
    }

    /// Its version.
    pub fn version(&self) -> Result<String> {
        first_line(&self.0, &["--version"])
            .ok_or_else(|| Error::Unusable(format!("failed to run {}", self.0.display())))
    }

    /// Starts `wscluster ARGS` on CPU `cpu`, or on any for `None`.
    pub fn start<A: AsRef<str>>(&self, name: &str, cpu: Option<usize>, args: &[A]) -> Result<Child> {
        Child::start(name, cpu, &self.0.display().to_string(), args)
    }

    /// Starts a gateway with one worker in front of `backends` and waits until it routes.
    pub async fn gateway(
        &self,
        folder: &Path,
        manifest: &Manifest,
        backends: &[Address],
        cpu: usize,
    ) -> Result<(Child, SocketAddr)> {
        let manifest = manifest.write(folder)?;
        let mut args = vec!["gateway", "-f", &manifest, "--workers", "1", "--exit-with-parent"];
        args.extend(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let shards: Vec<_> =
            backends.iter().enumerate().map(|(i, b)| format!("bench-{i}={},{}", b.ws, b.admin)).collect();
        args.extend(shards.iter().flat_map(|shard| ["--shard", shard]));
        let mut child = self.start("gateway", Some(cpu), &args)?;
        let announced: Announced = child.line(START).await?;
        ready(announced.listening.admin).await?;
        Ok((child, announced.listening.ws))
    }

    /// Starts a shard with one worker that reads from `brokers` and waits until it is ready.
    pub async fn shard(
        &self,
        folder: &Path,
        manifest: &Manifest,
        ordinal: usize,
        brokers: &str,
        cpu: usize,
    ) -> Result<(Child, Address)> {
        let (manifest, name) = (manifest.write(folder)?, format!("bench-{ordinal}"));
        let mut args = vec!["shard", "-f", &manifest, "--name", &name, "--brokers", brokers, "--workers", "1"];
        args.extend(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--exit-with-parent"]);
        let mut child = self.start(&format!("shard-{ordinal}"), Some(cpu), &args)?;
        let announced: Announced = child.line(START).await?;
        ready(announced.listening.admin).await?;
        Ok((child, announced.listening))
    }
}

/// The `WsCluster` of a bench.
#[derive(Clone, Copy, Debug)]
pub struct Manifest {
    /// Shards.
    pub shards: usize,
    /// Slots of each shard.
    pub capacity: u32,
    /// Gateway replicas.
    pub gateways: usize,
    /// `delivery.coalesce`, milliseconds.
    pub coalesce_ms: u32,
    /// `fetch.wait.max.ms` of the shards' Kafka client; `None` for their default.
    pub fetch_wait_ms: Option<u32>,
    /// The topic. A record with key K goes to channel `K.t`.
    pub topic: &'static str,
    /// `history.window`, seconds.
    pub window_s: u32,
    /// `history.maxBytes`, MiB.
    pub history_mib: u32,
    /// `delivery.slowClient`.
    pub slow_client: &'static str,
    /// `delivery.maxQueueBytes`, KiB.
    pub max_queue_kib: u32,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            shards: 1,
            capacity: 15_000,
            gateways: 1,
            coalesce_ms: 0,
            fetch_wait_ms: None,
            topic: TOPIC,
            window_s: 60,
            history_mib: 64,
            slow_client: "disconnect",
            max_queue_kib: 256,
        }
    }
}

/// The topic of every bench.
pub const TOPIC: &str = "bench";

/// The key of the `i`th channel.
pub fn key(i: usize) -> String {
    format!("c{i}")
}

/// The text message that subscribes to the channel of `key`.
pub fn subscribe(key: &str) -> String {
    json!({ "type": "subscribe", "data": { "channels": [channel(key)] } }).to_string()
}

/// The channel that records with key `key` go to.
pub fn channel(key: &str) -> String {
    format!("{key}.t")
}

impl Manifest {
    /// The manifest as JSON.
    pub fn json(&self) -> Value {
        let wait = self.fetch_wait_ms.iter();
        let properties: BTreeMap<_, _> = wait.map(|ms| ("fetch.wait.max.ms", ms.to_string())).collect();
        json!({
            "apiVersion": "wscluster.dev/v1alpha1",
            "kind": "WsCluster",
            "metadata": { "name": "bench" },
            "spec": {
                "shards": self.shards,
                "capacity": self.capacity,
                "source": { "kafka": {
                    "topics": [{ "name": self.topic, "channel": "{key}.t", "partitions": 1 }],
                    "history": { "window": format!("{}s", self.window_s), "maxBytes": format!("{}Mi", self.history_mib) },
                    "properties": properties,
                } },
                "delivery": {
                    "coalesce": format!("{}ms", self.coalesce_ms),
                    "slowClient": self.slow_client,
                    "maxQueueBytes": format!("{}Ki", self.max_queue_kib),
                },
                "gateway": { "replicas": self.gateways },
                "template": { "shard": { "workers": 1 }, "gateway": { "workers": 1 } },
            },
        })
    }

    /// Writes the manifest into `folder` and returns the path.
    pub fn write(&self, folder: &Path) -> Result<String> {
        write_manifest(folder, &self.json())
    }
}

/// Writes `manifest` (JSON is YAML) into `folder`, replacing an existing one, and returns the path.
pub fn write_manifest(folder: &Path, manifest: &Value) -> Result<String> {
    let (new, path) = (folder.join("cluster.yaml.new"), folder.join("cluster.yaml"));
    std::fs::write(&new, format!("{manifest:#}\n")).doing(format!("write {}", new.display()))?;
    std::fs::rename(&new, &path).doing(format!("rename {}", new.display()))?;
    Ok(path.display().to_string())
}

/// Waits until `/readyz` of `admin` answers 200.
pub async fn ready(admin: SocketAddr) -> Result<()> {
    let deadline = tokio::time::Instant::now() + START;
    let mut last = String::new();
    while tokio::time::Instant::now() < deadline {
        match AdminClient::new(ANSWER).get(admin, "/readyz").await {
            Ok((status, _)) if status.is_success() => return Ok(()),
            Ok((status, body)) => last = format!("{status} {}", String::from_utf8_lossy(&body).trim()),
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(Error::Unusable(format!("{admin} did not become ready: {last}")))
}

/// `/health` of this admin port.
pub async fn health<H: DeserializeOwned>(admin: SocketAddr) -> Result<H> {
    let health = AdminClient::new(ANSWER).health(admin).await;
    health.map_err(|error| Error::Unusable(error.to_string()))
}

/// Connections of the shard with this admin port.
pub async fn connections(admin: SocketAddr) -> Result<u64> {
    let health: ShardHealth = health(admin).await?;
    Ok(health.connections.into())
}

/// The value of a counter without labels from the metrics of this admin port.
pub async fn counter(admin: SocketAddr, name: &str) -> Result<u64> {
    let answer = AdminClient::new(ANSWER).get(admin, "/metrics").await;
    let (_, body) = answer.map_err(|error| Error::Unusable(error.to_string()))?;
    let text = String::from_utf8_lossy(&body);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.ok_or_else(|| Error::Unusable(format!("{admin} has no counter {name}")))
}
