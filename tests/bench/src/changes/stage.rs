//! A `wscluster local` and its manifest, which is edited during the run.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use wscluster_admin::health::Status;

use crate::bail;
use crate::child::signal_pid;
use crate::error::Result;
use crate::local::{Load, Local, folder};
use crate::ours::{Binary, write_manifest};

/// Time limit for any change. A hung shard takes longest: the run waits 40 s for it.
const PATIENCE: Duration = Duration::from_mins(3);

/// A run and the path of its manifest.
#[derive(Debug)]
pub(super) struct Stage {
    binary: Binary,
    folder: TempDir,
    manifest: Value,
    local: Local,
}

impl Stage {
    /// Starts `manifest` and waits until it is ready.
    pub(super) async fn start(binary: &Binary, manifest: Value) -> Result<Self> {
        let folder = folder()?;
        let local = Local::start_file(binary, &write_manifest(folder.path(), &manifest)?).await?;
        Ok(Self { binary: binary.clone(), folder, manifest, local })
    }

    /// Starts clients that reconnect, with a log of this name.
    pub(super) fn audience(&self, name: &str, more: &[&str]) -> Result<Load> {
        let options: Vec<_> = ["--retry", "100", "--retry-max", "2s"].iter().chain(more).copied().collect();
        Load::called(name, &self.binary, &self.local, &options)
    }

    /// The admin port of the run as a whole.
    pub(super) fn front(&self) -> SocketAddr {
        self.local.ready.admin
    }

    /// Connections that a planned change may close per second.
    pub(super) fn rate(&self) -> u64 {
        let spec = &self.manifest["spec"];
        let rate = spec["rebalance"]["evictRate"].as_u64().or(spec["drain"]["evictRate"].as_u64());
        rate.unwrap_or_default()
    }

    /// The current specification.
    pub(super) fn spec(&mut self) -> &mut Value {
        &mut self.manifest["spec"]
    }

    /// Sets these values in the specification (JSON Pointers), writes the manifest, and waits until the run has applied
    /// it.
    pub(super) async fn edit(&mut self, values: &[(&str, Value)]) -> Result<()> {
        for (place, value) in values {
            set(self.spec(), place, value.clone());
        }
        write_manifest(self.folder.path(), &self.manifest)?;
        self.event("edited").await.map(drop)
    }

    /// The next event of this kind.
    pub(super) async fn event(&mut self, kind: &str) -> Result<Value> {
        self.local.event(kind, PATIENCE).await
    }

    /// Edits the manifest and waits until the run matches it.
    pub(super) async fn apply(&mut self, values: &[(&str, Value)]) -> Result<()> {
        self.edit(values).await?;
        self.event("applied").await.map(drop)
    }

    /// Sends `signal` to a shard and waits until it was restarted and everything is healthy.
    pub(super) async fn break_shard(&mut self, at: usize, signal: Signal) -> Result<()> {
        let pid = self.local.ready.shards[at].pid;
        self.break_process(pid, signal).await
    }

    /// The same with a gateway.
    pub(super) async fn break_gateway(&mut self, at: usize, signal: Signal) -> Result<()> {
        let pid = self.local.ready.gateways[at].pid;
        self.break_process(pid, signal).await
    }

    async fn break_process(&mut self, pid: u32, signal: Signal) -> Result<()> {
        signal_pid(pid, signal)?;
        self.event("restarted").await?;
        self.until("all is well", |health| health["status"] == Status::Healthy.as_str()).await
    }

    /// Waits until `/health` of the run as a whole satisfies `so`.
    pub(super) async fn until(&self, what: &str, so: impl Fn(&Value) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health = self.local.health().await?;
            if so(&health) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("not yet after {PATIENCE:?}: {what}; {health}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends it.
    pub(super) async fn end(self) {
        self.local.stop().await;
    }
}

/// Sets `value` at `place` in `at` and creates missing objects on the way.
fn set(at: &mut Value, place: &str, value: Value) {
    *place.trim_start_matches('/').split('/').fold(at, |at, name| &mut at[name]) = value;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn edits_one_field_and_leaves_the_others() {
        let mut spec = json!({ "shards": 3, "delivery": { "coalesce": "0ms" } });
        set(&mut spec, "/shards", json!(5));
        set(&mut spec, "/delivery/maxQueueBytes", json!("1Ki"));
        set(&mut spec, "/gateway/queue/timeout", json!("9s"));
        let expected = json!({
            "shards": 5, "delivery": { "coalesce": "0ms", "maxQueueBytes": "1Ki" }, "gateway": { "queue": { "timeout": "9s" } },
        });
        assert_eq!(spec, expected);
    }
}
