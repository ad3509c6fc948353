//! One child process: started with a pipe as its standard input, so that it notices however this process dies; in a process
//! group of its own, so that Ctrl-C reaches only this process, which then drains; killed when dropped.
//!
//! Its first line on standard output says where it listens; its log lines are read without ever making it wait.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::{mpsc, oneshot};
use wscluster_runtime::args;
use wscluster_runtime::socket_activation::Passed;
use wscluster_runtime::sockets::ListenError;

use super::listen_sockets::Front;
use super::supervise::Report;

/// Lines kept for an error report.
const TAIL: usize = 20;
/// A longer line of a child is cut in pieces of this size.
const LINE_BYTES: usize = 16 << 10;

/// What to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name in logs and events.
    pub name: Arc<str>,
    /// Executable.
    pub path: PathBuf,
    /// Arguments.
    pub args: Vec<OsString>,
    /// Environment, beside that of this process without what stands there for arguments.
    pub env: Vec<(String, String)>,
    /// What it is given to listen on, if it does not open that itself.
    pub front: Option<Front>,
}

/// Where a child listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Addresses {
    /// Clients.
    pub ws: SocketAddr,
    /// Health.
    pub admin: SocketAddr,
}

/// Why a child cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Its process.
    #[error("failed to start {}: {source}", path.display())]
    Process {
        /// Executable.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What it is given to listen on.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Held while a child starts: what is passed to one is not for another that starts at the same time.
static STARTS: Mutex<()> = Mutex::new(());

/// The last log lines of a child.
#[derive(Clone, Debug, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// A child that runs.
#[derive(Debug)]
pub struct Running {
    /// Process id.
    pub pid: u32,
    /// Its last log lines.
    pub tail: Tail,
    child: Child,
    /// Closed when this is dropped, or when this process dies: the child ends then.
    _lifeline: Option<ChildStdin>,
    log: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Starts `program` with copies of `sockets`; its log lines go to `reports`. The receiver resolves when the child says where
    /// it listens, and fails when its output ends before.
    pub fn start(
        program: &Program,
        sockets: &[TcpListener],
        reports: &mpsc::Sender<Report>,
    ) -> Result<(Self, oneshot::Receiver<Addresses>), SpawnError> {
        let mut command = tokio::process::Command::new(&program.path);
        // Meant for another process: a child has all of its arguments from this one, or from the manifest.
        for name in args::VARIABLES {
            command.env_remove(name);
        }
        command
            .args(&program.args)
            .envs(program.env.iter().map(|(name, value)| (name, value)))
            .env_remove("LISTEN_PID")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let spawned = {
            let _alone = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
            Passed::new(sockets).and_then(|passed| command.envs(passed.env()).spawn())
        };
        let mut child = spawned.map_err(|source| SpawnError::Process { path: program.path.clone(), source })?;
        let pid = child.id().expect("it was not waited for");
        let (announce, addresses) = oneshot::channel();
        let tail = Tail::default();
        let out = child.stdout.take().expect("it is piped");
        let err = child.stderr.take().expect("it is piped");
        tokio::spawn(read_announcement(out, announce));
        let log = tokio::spawn(read_log(err, program.name.clone(), tail.clone(), reports.clone()));
        let lifeline = child.stdin.take();
        Ok((Self { pid, tail, child, _lifeline: lifeline, log }, addresses))
    }

    /// Waits for its end and for its last log line.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        // A grandchild may hold the pipe open for ever.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), &mut self.log).await;
        Ok(status)
    }

    /// Sends `signal` if it still runs.
    pub fn signal(&self, signal: rustix::process::Signal) {
        // It may be gone already: then there is nothing to tell.
        let _ = wscluster_runtime::process::signal_child(&self.child, signal);
    }
}

async fn read_announcement(out: impl AsyncRead + Unpin, announce: oneshot::Sender<Addresses>) {
    #[derive(Deserialize)]
    struct Announcement {
        listening: Addresses,
    }
    let mut out = BufReader::new(out);
    let mut announce = Some(announce);
    let mut line = Vec::new();
    while let Ok(true) = next_line(&mut out, &mut line).await {
        if let Ok(found) = serde_json::from_slice::<Announcement>(&line)
            && let Some(announce) = announce.take()
        {
            let _ = announce.send(found.listening);
        }
    }
}

async fn read_log(err: impl AsyncRead + Unpin, name: Arc<str>, tail: Tail, reports: mpsc::Sender<Report>) {
    let mut err = BufReader::new(err);
    let mut line = Vec::new();
    let mut dropped = 0u64;
    while let Ok(true) = next_line(&mut err, &mut line).await {
        let text = String::from_utf8_lossy(&line).into_owned();
        tail.push(&text);
        // Where this process does not keep up, a shard must not wait for it: its lines are dropped and counted.
        match reports.try_send(Report::Log { name: name.clone(), line: text, dropped }) {
            Ok(()) => dropped = 0,
            Err(_) => dropped += 1,
        }
    }
}

/// The next line without its end, in `line`; false at the end.
async fn next_line(input: &mut (impl tokio::io::AsyncBufRead + Unpin), line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    loop {
        let bytes = input.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let take = end.unwrap_or(bytes.len());
        line.extend_from_slice(&bytes[..take]);
        input.consume(end.map_or(take, |end| end + 1));
        if end.is_some() || line.len() >= LINE_BYTES {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn splits_lines_and_cuts_endless_ones() {
        let text = [b"a\n\nb".to_vec(), vec![b'x'; 40_000]].concat();
        let mut input = BufReader::new(&text[..]);
        let mut lines = Vec::new();
        let mut line = Vec::new();
        while next_line(&mut input, &mut line).await.unwrap() {
            lines.push(line.len());
        }
        assert_eq!(lines[..2], [1, 0]);
        assert!(lines[2..].iter().all(|&len| len < LINE_BYTES + 8_192), "{lines:?}");
        assert_eq!(lines[2..].iter().sum::<usize>(), 40_001);
    }

    #[test]
    fn keeps_only_the_last_lines() {
        let tail = Tail::default();
        (0..50).for_each(|n| tail.push(&n.to_string()));
        let lines = tail.lines();
        assert_eq!((lines.len(), lines[0].as_str(), lines[19].as_str()), (20, "30", "49"));
    }
}
