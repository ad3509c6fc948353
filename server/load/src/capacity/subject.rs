//! The server under test: a shard that is started for one step with an embedded broker, or a server that already runs.
//! CPU and memory during the hold come from `/proc` for a child process, otherwise from the health answer.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use wscluster_admin::client::AdminClient;
use wscluster_admin::health::Checks;
use wscluster_api::manifest;
use wscluster_kafka::embedded::{Embedded, EmbeddedError};
use wscluster_runtime::child_process::{Program, Running, SpawnError};

use super::super::args::Args;
use super::super::coordinator::Mark;
use super::cpu::{CpuUse, Moment};

/// Time for a shard to listen, and again to become ready.
const START_TIME: Duration = Duration::from_secs(20);
/// Time limit for a request to an admin port.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// The embedded broker answers an empty fetch only after its wait time, even if a record arrives meanwhile. That time
/// would dominate the latency, so it is short here.
const MANIFEST: &str = "\
apiVersion: wscluster.dev/v1alpha1
kind: WsCluster
metadata: { name: capacity }
spec:
  shards: 1
  source:
    kafka:
      topics:
        - { name: load, channel: \"{key}.trade\", partitions: 1 }
      properties: { fetch.wait.max.ms: \"5\" }
";

/// There is no server to test.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubjectError {
    #[error(transparent)]
    Manifest(#[from] manifest::ManifestError),
    #[error("failed to use {path}: it names no topic with a fixed name and a channel that ends in {{key}}'s suffix")]
    Topic { path: PathBuf },
    #[error(transparent)]
    Broker(#[from] EmbeddedError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("failed to write the shard's manifest to {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("failed to find this program's own file: {0}")]
    OwnFile(std::io::Error),
    #[error("failed to start the shard: {reason}{}", log(tail))]
    NotReady { reason: String, tail: Vec<String> },
}

fn log(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |text, line| text + "\n  " + line)
}

/// The server of one step.
pub(super) struct Subject {
    own: Option<Own>,
    cpu: Cpu,
}

/// A file that is removed on drop.
struct OwnFile(PathBuf);

impl Drop for OwnFile {
    fn drop(&mut self) {
        // Nothing else removes it, but it is in the directory for temporary files.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A shard that was started here, with its broker and manifest.
struct Own {
    running: Running,
    _broker: Embedded,
    _manifest: OwnFile,
}

/// Samples of CPU and memory; `None` before the hold.
type Samples = Arc<Mutex<Option<Vec<(f64, u64)>>>>;

/// Source of the server's CPU use.
enum Cpu {
    Unseen,
    Process { pid: u32, begin: Option<Moment>, seen: CpuUse },
    Health { samples: Samples, poll: JoinHandle<()> },
}

impl Subject {
    /// Starts a shard for `connections` and adds its address to `step`, unless `step` already names a server.
    pub(super) async fn start(step: &mut Args, connections: u32) -> Result<Self, SubjectError> {
        if step.url().is_some() || !step.shard.is_empty() {
            let cpu = step.admin.map_or(Cpu::Unseen, |admin| watch_health(admin.to_string()));
            return Ok(Self { own: None, cpu });
        }
        let path = std::env::temp_dir().join(format!("wscluster-capacity-{}.yaml", std::process::id()));
        let source = step.file.clone().unwrap_or_else(|| PathBuf::from("the default manifest"));
        let mut cluster = match &step.file {
            Some(file) => manifest::read(file)?,
            None => manifest::parse(MANIFEST, &source)?,
        };
        // Some connections may still be closing, and slots are not the limit under test.
        cluster.spec.capacity = connections + 100;
        let topic = cluster.spec.source.kafka.topics.iter().find(|topic| !topic.name.is_empty());
        let topic = topic.ok_or(SubjectError::Topic { path: source })?;
        step.topic = Some(format!("{}={}", topic.name, topic.channel));
        let broker = Embedded::start(&cluster.spec.source.kafka.topics)?;
        step.brokers = vec![broker.bootstrap().to_owned()];
        let write = |source| SubjectError::Write { path: path.clone(), source };
        let text = serde_json::to_string(&cluster).map_err(|error| write(error.into()))?;
        let own_file = OwnFile(path.clone());
        std::fs::write(&path, text).map_err(write)?;

        let mut args: Vec<OsString> =
            vec!["--log".into(), "warn".into(), "shard".into(), "-f".into(), path.clone().into()];
        let flags = ["--name", "capacity-0", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--exit-with-parent"];
        args.extend(flags.map(OsString::from));
        args.extend(["--brokers".into(), broker.bootstrap().into()]);
        args.extend(["--workers".into(), step.shard_workers.to_string().into()]);
        let program = Program {
            name: "capacity-0".into(),
            path: std::env::current_exe().map_err(SubjectError::OwnFile)?,
            args,
            env: Vec::new(),
            listen: None,
        };
        // Only the last lines are needed, and `running` keeps them.
        let (running, addresses) = Running::start(&program, &[], |_| true)?;
        let not_ready = |reason: &str, running: &Running| SubjectError::NotReady {
            reason: reason.to_owned(),
            tail: running.tail.lines(),
        };
        let Ok(Ok(addresses)) = tokio::time::timeout(START_TIME, addresses).await else {
            return Err(not_ready("it did not announce its addresses", &running));
        };
        let deadline = Instant::now() + START_TIME;
        while !is_ready(&addresses.admin.to_string()).await {
            if Instant::now() > deadline {
                return Err(not_ready("it did not become ready", &running));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        step.shard = vec![addresses.ws.to_string()];
        let cpu = Cpu::Process { pid: running.pid, begin: None, seen: CpuUse::default() };
        Ok(Self { own: Some(Own { running, _broker: broker, _manifest: own_file }), cpu })
    }

    /// Starts or stops measuring CPU.
    pub(super) fn mark(&mut self, mark: Mark) {
        match (&mut self.cpu, mark) {
            (Cpu::Process { pid, begin, .. }, Mark::Begin) => *begin = Moment::now(*pid),
            (Cpu::Process { pid, begin: Some(begin), seen }, Mark::End) => {
                *seen = Moment::now(*pid).map_or_else(CpuUse::default, |now| now.since(begin));
            }
            (Cpu::Health { samples, .. }, Mark::Begin) => {
                if let Ok(mut samples) = samples.lock() {
                    *samples = Some(Vec::new());
                }
            }
            (Cpu::Health { poll, .. }, Mark::End) => poll.abort(),
            _ => {}
        }
    }

    /// Stops the shard if it was started here. Returns the CPU use during the hold.
    pub(super) async fn finish(self) -> CpuUse {
        if let Some(mut own) = self.own {
            own.running.signal(rustix::process::Signal::TERM);
            own.running.signal(rustix::process::Signal::TERM);
            let _ = tokio::time::timeout(START_TIME, own.running.ended()).await;
        }
        match self.cpu {
            Cpu::Unseen => CpuUse::default(),
            Cpu::Process { seen, .. } => seen,
            Cpu::Health { samples, poll } => {
                poll.abort();
                let samples = samples.lock().ok().and_then(|mut samples| samples.take()).unwrap_or_default();
                let n = samples.len() as f64;
                let mean = samples.iter().map(|(cpu, _)| cpu / n).sum::<f64>();
                let last = samples.last();
                CpuUse {
                    cpu_percent: last.map(|_| mean),
                    rss_bytes: last.map(|(_, bytes)| *bytes),
                    others_cpu_percent: None,
                }
            }
        }
    }
}

async fn is_ready(admin: &str) -> bool {
    matches!(AdminClient::new(ANSWER_TIME).get(admin, "/readyz").await, Ok((status, _)) if status.is_success())
}

/// Polls the health of `admin` every second for CPU and memory.
fn watch_health(admin: String) -> Cpu {
    /// The part that shards and gateways have in common.
    #[derive(serde::Deserialize)]
    struct Health {
        checks: Checks,
    }
    let samples = Samples::default();
    let taken = Arc::clone(&samples);
    let client = AdminClient::new(ANSWER_TIME);
    let poll = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let Ok(Health { checks }) = client.health(&admin).await else { continue };
            if let Ok(mut taken) = taken.lock()
                && let Some(taken) = taken.as_mut()
            {
                taken.push((checks.cpu.percentage, checks.memory.bytes));
            }
        }
    });
    Cpu::Health { samples, poll }
}

#[cfg(test)]
mod tests {
    use wscluster_runtime::args::parsed;

    use super::*;

    #[tokio::test]
    async fn leaves_no_manifest_behind_when_the_shard_does_not_start() {
        let mut args: Args = parsed(["load", "--find-capacity"]).unwrap();
        // The program here is that of the tests, which knows no shard.
        let error = Subject::start(&mut args, 1).await.err().unwrap();
        assert!(matches!(error, SubjectError::NotReady { .. }), "{error}");
        let name = format!("wscluster-capacity-{}.yaml", std::process::id());
        assert!(!std::env::temp_dir().join(name).exists());
    }
}
