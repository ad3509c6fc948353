//! A process under measurement: pinned to a CPU, controlled by lines on its standard input and output, and ended when
//! it is dropped or when the bench dies.
//!
//! It is started through `setpriv --pdeathsig` and `taskset` of util-linux. Both exec in place, so the process id is
//! that of the program.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child as Process, ChildStdin, ChildStdout, Command};

use crate::error::{Doing as _, Error, Result};
use crate::{bail, report};

/// Time for a process to end after SIGTERM.
const FAREWELL: Duration = Duration::from_secs(8);

/// A running child.
#[derive(Debug)]
pub struct Child {
    name: String,
    pid: u32,
    process: Process,
    /// Children with `--exit-with-parent` end when this closes.
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Child {
    /// Starts `program` on CPU `cpu`, or on any for `None`; its standard error goes to `target/bench/NAME.log`.
    pub fn start<A: AsRef<str>>(name: &str, cpu: Option<usize>, program: &str, args: &[A]) -> Result<Self> {
        let log = report::directory()?.join(format!("{name}.log"));
        let stderr = std::fs::File::create(&log).doing(format!("create {}", log.display()))?;
        let pin = cpu.map(|cpu| ["taskset".to_owned(), "-c".to_owned(), cpu.to_string()]);
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "TERM"])
            .args(pin.iter().flatten())
            .arg(program)
            .args(args.iter().map(AsRef::as_ref))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .doing(format!("start {program} (setpriv and taskset of util-linux are needed too)"))?;
        let (Some(pid), Some(stdin), Some(stdout)) = (process.id(), process.stdin.take(), process.stdout.take()) else {
            bail!("{name} ended at once; see {}", log.display());
        };
        Ok(Self { name: name.to_owned(), pid, process, stdin, stdout: BufReader::new(stdout).lines(), log })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// File with its standard error.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The next line of its standard output, as JSON.
    pub async fn line<T: DeserializeOwned>(&mut self, within: Duration) -> Result<T> {
        let line = tokio::time::timeout(within, self.stdout.next_line()).await;
        let Ok(line) = line else { bail!("{} printed nothing for {within:?}; see {}", self.name, self.log.display()) };
        let Some(line) = line.doing(format!("read from {}", self.name))? else {
            bail!("{} ended: {}", self.name, self.last_words())
        };
        serde_json::from_str(&line)
            .map_err(|error| Error::Unusable(format!("{} printed an unexpected line {line:?}: {error}", self.name)))
    }

    /// The rest of its standard output. Fails if the process does not end `within` that time.
    pub async fn rest(&mut self, within: Duration) -> Result<String> {
        let mut text = String::new();
        let reading = async {
            while let Some(line) = self.stdout.next_line().await? {
                text += &line;
                text.push('\n');
            }
            Ok::<_, std::io::Error>(())
        };
        match tokio::time::timeout(within, reading).await {
            Ok(read) => read.doing(format!("read from {}", self.name))?,
            Err(_) => bail!("{} has not ended after {within:?}; see {}", self.name, self.log.display()),
        }
        if text.is_empty() {
            bail!("{} printed nothing: {}", self.name, self.last_words());
        }
        Ok(text)
    }

    /// Sends `request` as one line and reads one line back.
    pub async fn ask<T: DeserializeOwned>(&mut self, request: &serde_json::Value, within: Duration) -> Result<T> {
        let line = format!("{request}\n");
        self.stdin.write_all(line.as_bytes()).await.doing(format!("write to {}", self.name))?;
        self.line(within).await
    }

    /// Sends `signal`.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal_pid(self.pid, signal)
    }

    /// Ends the process: SIGTERM first, then SIGKILL.
    pub async fn stop(mut self) {
        let _ = self.signal(Signal::TERM);
        let _ = tokio::time::timeout(FAREWELL, self.process.wait()).await;
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<_> = log.lines().rev().take(3).collect();
        format!("{} ({})", last.into_iter().rev().collect::<Vec<_>>().join(" / "), self.log.display())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !matches!(self.process.try_wait(), Ok(None)) {
            return;
        }
        let _ = self.signal(Signal::TERM);
        let deadline = Instant::now() + FAREWELL;
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.process.start_kill();
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Sends `signal` to process `pid`.
pub fn signal_pid(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Error::Unusable("no such process id".to_owned()))?;
    kill_process(pid, signal).doing(format!("signal process {}", pid.as_raw_nonzero()))
}
