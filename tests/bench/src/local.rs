//! Runs `wscluster local` with a manifest, and `wscluster load` against it, and reads the result of the tester.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bail;
use crate::child::{Child, signal_pid};
use crate::error::{Doing as _, Error, Result};
use crate::ours::{Binary, Manifest, TOPIC, connections, health, key};

/// Channels of these benches; a client subscribes to one of them.
pub const CHANNELS: usize = 20;

/// A run of `wscluster local`.
#[derive(Debug)]
pub struct Local {
    /// Its ready line.
    pub ready: Ready,
    child: Child,
}

/// The line of `--output json` when everything is ready.
#[derive(Clone, Debug, Deserialize)]
pub struct Ready {
    /// Address for clients.
    pub gateway: SocketAddr,
    /// The admin port of the run as a whole.
    pub admin: SocketAddr,
    /// The shards.
    pub shards: Vec<Shard>,
    /// The gateways.
    pub gateways: Vec<Gateway>,
    /// Bootstrap address of the broker.
    pub kafka: String,
}

/// A gateway of the run.
#[derive(Clone, Debug, Deserialize)]
pub struct Gateway {
    /// Admin port.
    pub admin: SocketAddr,
    /// Process id.
    pub pid: u32,
}

/// A shard of the run.
#[derive(Clone, Debug, Deserialize)]
pub struct Shard {
    /// Name of the shard.
    pub name: String,
    /// Its port for clients.
    pub ws: SocketAddr,
    /// Its admin port.
    pub admin: SocketAddr,
    /// Its process.
    pub pid: u32,
}

impl Local {
    /// Starts `manifest` and waits until it is ready.
    pub async fn start(binary: &Binary, manifest: &Manifest, folder: &Path) -> Result<Self> {
        Self::start_file(binary, &manifest.write(folder)?).await
    }

    /// Starts the manifest in `file` and waits until it is ready.
    pub async fn start_file(binary: &Binary, file: &str) -> Result<Self> {
        let args = ["local", "-f", file, "--port", "0", "--output", "json", "--grace", "1s"];
        let mut child = binary.start("local", None, &args)?;
        let ready = child.line(Duration::from_secs(30)).await?;
        Ok(Self { ready, child })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Connections of each shard, from its own `/health`; a shard that does not answer holds none.
    pub async fn connections(&self) -> Vec<u64> {
        let mut all = vec![];
        for shard in &self.ready.shards {
            all.push(connections(shard.admin).await.unwrap_or(0));
        }
        all
    }

    /// The next event of this kind, `within` that time. Other events are skipped, but a rejected edit is an error.
    pub async fn event(&mut self, kind: &str, within: Duration) -> Result<Value> {
        let coming = async {
            loop {
                let event: Value = self.child.line(within).await?;
                if event["event"] == kind {
                    return Ok(event);
                }
                if event["event"] == "edit_refused" {
                    bail!("wscluster local refused an edit: {}", event["error"]);
                }
            }
        };
        let late = |_| Error::Unusable(format!("wscluster local told of no event {kind:?} for {within:?}"));
        tokio::time::timeout(within, coming).await.map_err(late)?
    }

    /// Health of the run as a whole.
    pub async fn health(&self) -> Result<Value> {
        health(self.ready.admin).await
    }

    /// Ends the run.
    pub async fn stop(self) {
        self.child.stop().await;
    }
}

/// `100 · (max − min) / max`.
pub fn imbalance_percent(connections: &[u64]) -> f64 {
    let (min, max) = (connections.iter().min().copied().unwrap_or(0), connections.iter().max().copied().unwrap_or(0));
    if max == 0 { 0.0 } else { 100.0 * (max - min) as f64 / max as f64 }
}

/// The fields of `wscluster load --output json` that the benches use.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Verdict {
    /// Clients planned.
    pub planned: u64,
    /// Clients that connected and settled.
    pub connected: u64,
    /// Clients that did not, or lost their connection and were not back at the end.
    pub failed: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// Settled connections that were lost.
    pub dropped: u64,
    /// Lost clients that reconnected.
    pub reconnected: u64,
    /// Seconds of the ramp.
    pub ramp_seconds: f64,
    /// Failed attempts by name.
    pub failures: BTreeMap<String, u64>,
    /// Lost connections by name.
    pub drops: BTreeMap<String, u64>,
    /// The audit of deliveries.
    pub audit: Audit,
    /// Percentiles by phase, in milliseconds.
    pub latency_ms: BTreeMap<String, Value>,
    /// Clients that read slowly.
    pub slow: Slow,
    /// Whether the tester was the bottleneck.
    pub generator: Generator,
}

/// Clients that read slowly, which are counted separately.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Slow {
    /// Their connections.
    pub opened: u64,
    /// Their connections that the server ended.
    pub ended: u64,
    /// Ended connections by name.
    pub ends: BTreeMap<String, u64>,
}

/// The audit of deliveries.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Audit {
    /// `topic` if deliveries were compared with Kafka.
    pub basis: String,
    /// Expected deliveries.
    pub expected: u64,
    /// Missing deliveries.
    pub lost: u64,
    /// Missing deliveries that were announced as gaps.
    pub declared_lost: u64,
    /// Channels of clients that differ from the topic in any other way.
    pub mismatched: u64,
    /// Deliveries received twice.
    pub duplicated: u64,
    /// Deliveries received after a later one.
    pub reordered: u64,
    /// Channels resumed without a loss.
    pub recovered: u64,
    /// Channels resumed with a loss.
    pub unrecovered: u64,
}

/// Whether the tester was the bottleneck.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Generator {
    /// Whether it was.
    pub bottleneck: bool,
    /// The reasons.
    pub reasons: Vec<String>,
}

impl Verdict {
    /// A percentile of a phase.
    pub fn latency(&self, phase: &str, percentile: &str) -> f64 {
        self.latency_ms.get(phase).and_then(|summary| summary[percentile].as_f64()).unwrap_or(f64::NAN)
    }

    /// `name × count` of every failure and loss.
    pub fn reasons(&self) -> String {
        let all = self.failures.iter().chain(&self.drops).map(|(why, n)| format!("{n} × {why}"));
        Some(all.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty()).unwrap_or_else(|| "–".to_owned())
    }
}

/// A running tester.
#[derive(Debug)]
pub struct Load(Child);

impl Load {
    /// Starts a tester at the gateway of `local` that audits against the topic, with `more` options.
    pub fn start(binary: &Binary, local: &Local, more: &[&str]) -> Result<Self> {
        Self::called("load", binary, local, more)
    }

    /// The same with a log of this name.
    pub fn called(name: &str, binary: &Binary, local: &Local, more: &[&str]) -> Result<Self> {
        Self::audit(name, binary, local, &format!("{}{{0..{}}}.t", key_prefix(), CHANNELS - 1), more)
    }

    /// The same with these channels.
    pub fn on(binary: &Binary, local: &Local, channels: &str, more: &[&str]) -> Result<Self> {
        Self::audit("load", binary, local, channels, more)
    }

    fn audit(name: &str, binary: &Binary, local: &Local, channels: &str, more: &[&str]) -> Result<Self> {
        let url = format!("ws://{}/ws", local.ready.gateway);
        let topic = format!("{TOPIC}={{key}}.t");
        let mut args =
            vec!["--url", url.as_str(), "--channels", channels, "--brokers", &local.ready.kafka, "--topic", &topic];
        if !more.contains(&"--progress") {
            args.push("--quiet");
        }
        args.extend(more);
        Self::named(binary, name, &args)
    }

    /// Starts a tester with these arguments.
    pub fn begin(binary: &Binary, args: &[&str]) -> Result<Self> {
        Self::named(binary, "load", args)
    }

    /// The same with a log of this name, for a second tester.
    pub fn named(binary: &Binary, name: &str, args: &[&str]) -> Result<Self> {
        let args: Vec<_> = ["load", "--output", "json"].iter().chain(args).copied().collect();
        Ok(Self(binary.start(name, None, &args)?))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// File with its progress.
    pub fn log(&self) -> PathBuf {
        self.0.log().to_owned()
    }

    /// Stops all clients and returns the result, `within` that time.
    pub async fn leave(self, within: Duration) -> Result<Verdict> {
        signal_pid(self.pid(), Signal::INT)?;
        self.verdict(within).await
    }

    /// Waits for the result, `within` that time.
    pub async fn verdict(mut self, within: Duration) -> Result<Verdict> {
        let text = self.0.rest(within).await?;
        serde_json::from_str(&text).map_err(|error| {
            let start: String = text.chars().take(300).collect();
            Error::Unusable(format!("wscluster load said {start:?}, which is not what was expected: {error}"))
        })
    }
}

fn key_prefix() -> String {
    key(0).trim_end_matches('0').to_owned()
}

/// A folder for a manifest.
pub fn folder() -> Result<tempfile::TempDir> {
    tempfile::TempDir::with_prefix("wscluster-bench-").doing("create a folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_imbalance_like_the_gateway() {
        assert!((imbalance_percent(&[100, 99, 98]) - 2.0).abs() < 1e-9);
        assert!(imbalance_percent(&[]).abs() < 1e-9);
        assert!((imbalance_percent(&[10, 0]) - 100.0).abs() < 1e-9);
    }
}
