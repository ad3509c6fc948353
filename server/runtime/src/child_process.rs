//! Starts a part of wscluster as a child process and reads what it prints.
//!
//! - Standard input is a pipe: the child ends when this process dies, however that happens.
//! - The child has its own process group: Ctrl-C reaches only this process, which then drains.
//! - The child announces its addresses on standard output. Log lines are read from standard error; a full log receiver
//!   never blocks the child.
//! - Dropping [`Running`] kills the child.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::args;
use crate::socket_activation::Passed;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::oneshot;

/// Log lines kept for an error report.
const TAIL: usize = 20;
/// Longer lines are cut into pieces of this size.
const LINE_BYTES: usize = 16 << 10;

/// A program with its arguments.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name in logs and events.
    pub name: Arc<str>,
    /// Executable.
    pub path: PathBuf,
    /// Arguments.
    pub args: Vec<OsString>,
    /// Environment variables, added to those of this process. Variables that stand for arguments are not inherited.
    pub env: Vec<(String, String)>,
    /// Listening sockets that the child inherits; `None` if it opens its own.
    pub listen: Option<Listen>,
}

/// Listening sockets that a child inherits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address, which other children may share.
    pub addr: SocketAddr,
    /// Number of sockets: one for each event loop of the child.
    pub sockets: u32,
}

/// The addresses on which a child listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Addresses {
    /// Port for clients.
    pub ws: SocketAddr,
    /// Admin port.
    pub admin: SocketAddr,
}

/// A child process could not be started.
#[derive(Debug, thiserror::Error)]
#[error("failed to start {}: {source}", path.display())]
pub struct SpawnError {
    path: PathBuf,
    source: std::io::Error,
}

/// A line from the log of a child.
#[derive(Debug)]
pub struct LogLine {
    /// The text without its line end.
    pub text: String,
    /// Lines before this one that the receiver did not take.
    pub dropped: u64,
}

/// Held while a child starts, so that a child started at the same time does not inherit the sockets of this one.
static STARTS: Mutex<()> = Mutex::new(());

/// The last log lines of a child.
#[derive(Clone, Debug, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock();
        if lines.len() == TAIL {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().iter().cloned().collect()
    }
}

/// A running child. Dropping it kills the child.
#[derive(Debug)]
pub struct Running {
    /// Process id.
    pub pid: u32,
    /// The last log lines.
    pub tail: Tail,
    child: Child,
    /// The child ends when this pipe closes: when `Running` is dropped or this process dies.
    _lifeline: Option<ChildStdin>,
    log: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Starts `program`, which inherits `sockets`. `log` receives each log line and returns whether it took the line.
    /// The receiver resolves to the addresses of the child; it fails when the output of the child ends before them.
    pub fn start(
        program: &Program,
        sockets: &[TcpListener],
        log: impl FnMut(LogLine) -> bool + Send + 'static,
    ) -> Result<(Self, oneshot::Receiver<Addresses>), SpawnError> {
        let mut command = tokio::process::Command::new(&program.path);
        // They are meant for this process; a child takes its arguments from `program` and the manifest only.
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
            let _alone = STARTS.lock();
            Passed::new(sockets).and_then(|passed| command.envs(passed.env()).spawn())
        };
        let mut child = spawned.map_err(|source| SpawnError { path: program.path.clone(), source })?;
        let pid = child.id().expect("it was not waited for");
        let (announce, addresses) = oneshot::channel();
        let tail = Tail::default();
        let out = child.stdout.take().expect("it is piped");
        let err = child.stderr.take().expect("it is piped");
        tokio::spawn(read_announcement(out, announce));
        let log = tokio::spawn(read_log(err, tail.clone(), log));
        let lifeline = child.stdin.take();
        Ok((Self { pid, tail, child, _lifeline: lifeline, log }, addresses))
    }

    /// Waits until the child has ended and its last log line is read.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        // A grandchild may hold the pipe open.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), &mut self.log).await;
        Ok(status)
    }

    /// Sends `signal` if the child still runs.
    pub fn signal(&self, signal: rustix::process::Signal) {
        // The child may have ended already.
        let _ = crate::process::signal_child(&self.child, signal);
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

async fn read_log(err: impl AsyncRead + Unpin, tail: Tail, mut log: impl FnMut(LogLine) -> bool) {
    let mut err = BufReader::new(err);
    let mut line = Vec::new();
    let mut dropped = 0u64;
    while let Ok(true) = next_line(&mut err, &mut line).await {
        let text = String::from_utf8_lossy(&line).into_owned();
        tail.push(&text);
        // The child must not wait for a slow receiver: lines that are not taken are dropped and counted.
        if log(LogLine { text, dropped }) {
            dropped = 0;
        } else {
            dropped += 1;
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
