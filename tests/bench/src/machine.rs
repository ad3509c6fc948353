//! The machine and the build of a bench, without which its figures mean nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::bail;
use crate::error::Result;

/// The machine and the build.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processor model.
    pub cpu: String,
    /// Number of CPUs that this process may use.
    pub cpus: usize,
    /// Memory in GiB.
    pub memory_gib: f64,
    /// Kernel release.
    pub kernel: String,
    /// One-minute load average at the start; above 0.3, other programs were active.
    pub load_before: f64,
    /// Commit of the source tree, with `+` if it had changes.
    pub commit: String,
    /// Unix seconds at the start.
    pub started: u64,
}

impl Machine {
    /// The current machine and time.
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split(':').nth(1)).unwrap_or("unknown").trim().to_owned()
        };
        let kib: f64 =
            field(&read("/proc/meminfo"), "MemTotal").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
        let load = read("/proc/loadavg").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: (kib / 1_048_576.0 * 10.0).round() / 10.0,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: load,
            commit: commit(),
            started: std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
        }
    }
}

fn commit() -> String {
    let head = first_line("git", &["rev-parse", "--short", "HEAD"]);
    let changes = first_line("git", &["status", "--porcelain", "--untracked-files=no"]);
    match (head, changes) {
        (Some(head), None) => head,
        (Some(head), Some(_)) => head + "+",
        (None, _) => "unknown".to_owned(),
    }
}

/// The first line that a program prints, e.g. its version; `None` if it is missing or prints nothing.
pub fn first_line(program: impl AsRef<Path>, args: &[&str]) -> Option<String> {
    let output = Command::new(program.as_ref()).args(args).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().map(|line| line.trim().to_owned())
}

/// Fails if the subject and its clients cannot have a CPU each.
pub fn two_cpus() -> Result<()> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if cpus < 2 {
        bail!("this bench needs two CPUs, one for the subject and one for its clients; there is {cpus}");
    }
    Ok(())
}
