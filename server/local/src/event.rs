//! The events of a run: one JSON object per line for programs, one sentence for people.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use wscluster_admin::health::Status;

/// An event of a run. Names and members are documented output: see `docs/local.md`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A child listens for the first time.
    Started(ListeningChild),
    /// A child listens again.
    Restarted(ListeningChild),
    /// A child ended by itself.
    Exited {
        name: Arc<str>,
        pid: u32,
        #[serde(flatten)]
        how: ChildExit,
        ran_ms: u64,
        restart_in_ms: u64,
    },
    /// A child runs but does not answer. It is ended and restarted.
    Hung {
        name: Arc<str>,
        pid: u32,
        /// Time since its last answer.
        silent_ms: u64,
    },
    /// A child ended soon after its start, several times in a row. Restarts continue.
    CrashLoop {
        name: Arc<str>,
        exits: u32,
        restart_in_ms: u64,
        /// Its last log lines.
        log: Vec<String>,
    },
    /// A child could not be started, or ended before it listened.
    SpawnFailed { name: Arc<str>, error: String, restart_in_ms: u64 },
    /// An edit of the manifest was accepted.
    Edited {
        /// Each field that differs, as `spec.shards: 2 → 4`.
        changes: Vec<String>,
    },
    /// An edit of the manifest was rejected.
    EditRefused { error: String },
    /// The autoscaler changed the number of shards.
    Scaled { from: u32, to: u32, reason: String },
    /// A step towards the manifest.
    Step {
        name: Arc<str>,
        action: StepAction,
        /// The reason, with the numbers behind it.
        reason: String,
    },
    /// The next step cannot start yet.
    Blocked { reason: String },
    /// A removed child has ended.
    Removed { name: Arc<str>, killed: bool },
    /// Every part exists as the manifest declares, and serves.
    Applied {
        /// Time since the last edit.
        took_ms: u64,
    },
    /// The overall status changed.
    Status {
        status: Status,
        /// One sentence for each problem.
        reasons: Vec<String>,
    },
    /// The run begins to end: connections are moved away first.
    Stopping { reason: StopSignal, connections: u64, grace_ms: u64 },
    /// The run has ended.
    Stopped {
        /// Connections that were still open when the children were asked to end.
        left: u64,
        /// Children that did not end by themselves.
        killed: Vec<Arc<str>>,
    },
    /// Stands for lines that were dropped because the reader of standard output was too slow.
    Lost { lines: u64 },
    /// The run could not start.
    Failed { error: String },
}

/// What a step does to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StepAction {
    Start,
    Drain,
    Undrain,
    Restart,
    Remove,
    Evict,
}

/// The signal that ends a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum StopSignal {
    #[serde(rename = "SIGTERM")]
    Term,
    #[serde(rename = "SIGINT")]
    Int,
    #[serde(rename = "SIGHUP")]
    Hup,
}

/// An event with the time at which it was reported, as programs read it.
#[derive(Debug, Serialize)]
pub(crate) struct TimedEvent<'a> {
    /// RFC 3339, UTC.
    pub(crate) time: String,
    #[serde(flatten)]
    pub(crate) event: &'a Event,
}

/// A child that has announced its addresses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ListeningChild {
    pub(crate) name: Arc<str>,
    pub(crate) pid: u32,
    /// Address for clients.
    pub(crate) ws: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) restarts: u32,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ChildExit {
    /// Exit code, unless a signal ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
}

impl From<ExitStatus> for ChildExit {
    fn from(status: ExitStatus) -> Self {
        Self { code: status.code(), signal: status.signal() }
    }
}

impl fmt::Display for ChildExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("unknown status"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(at) => write!(f, "{} started: pid {}, ws {}, admin {}", at.name, at.pid, at.ws, at.admin),
            Self::Restarted(at) => {
                write!(f, "{} restarted (restart {}): pid {}, ws {}", at.name, at.restarts, at.pid, at.ws)
            }
            Self::Exited { name, pid, how, ran_ms, restart_in_ms } => write!(
                f,
                "{name} ended: {how} (pid {pid}, ran for {}); restart in {}",
                seconds(*ran_ms),
                seconds(*restart_in_ms)
            ),
            Self::Hung { name, pid, silent_ms } => write!(
                f,
                "{name} hangs: pid {pid} has not answered for {}; ending and restarting it",
                seconds(*silent_ms)
            ),
            Self::CrashLoop { name, exits, restart_in_ms, log } => {
                write!(
                    f,
                    "{name} is in a crash loop: it ended {exits} times in a row soon after its start; next restart in \
                     {}; its last log lines:",
                    seconds(*restart_in_ms)
                )?;
                log.iter().try_for_each(|line| write!(f, "\n    {line}"))
            }
            Self::SpawnFailed { name, error, restart_in_ms } => {
                write!(f, "{name}: {error}; next attempt in {}", seconds(*restart_in_ms))
            }
            Self::Edited { changes } if changes.is_empty() => f.write_str("manifest edited: no change in effect"),
            Self::Edited { changes } => write!(f, "manifest edited: {}", changes.join(", ")),
            Self::EditRefused { error } => {
                write!(f, "manifest rejected; still running the previous version: {error}")
            }
            Self::Scaled { from, to, reason } => write!(f, "scaling from {from} to {to} shards: {reason}"),
            Self::Step { name, reason, .. } => write!(f, "{name} {reason}"),
            Self::Blocked { reason } => write!(f, "waiting: {reason}"),
            Self::Removed { name, killed: false } => write!(f, "{name} has ended"),
            Self::Removed { name, killed: true } => write!(f, "{name} did not end and was killed"),
            Self::Applied { took_ms } => write!(f, "manifest applied after {}", seconds(*took_ms)),
            Self::Status { status: Status::Healthy, .. } => {
                f.write_str("healthy: every shard is ready and every gateway sees that")
            }
            Self::Status { status, reasons } => write!(f, "{}: {}", status, reasons.join("; ")),
            Self::Stopping { connections, grace_ms, .. } => write!(
                f,
                "stopping: moving {connections} connections away within {} (Ctrl-C again ends everything at once)",
                seconds(*grace_ms)
            ),
            Self::Stopped { left, killed } if killed.is_empty() => {
                write!(f, "stopped: every process ended by itself; {left} connections were still open")
            }
            Self::Stopped { left, killed } => {
                write!(f, "stopped: {} had to be killed; {left} connections were still open", killed.join(", "))
            }
            Self::Lost { lines } => write!(f, "{lines} lines lost: the reader of this output was too slow"),
            Self::Failed { error } => f.write_str(error),
        }
    }
}

fn seconds(millis: u64) -> String {
    format!("{:.1} s", Duration::from_millis(millis).as_secs_f64())
}

/// Whole milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_how_a_child_ended_for_programs_and_for_people() {
        let how = ChildExit { code: None, signal: Some(9) };
        let event = Event::Exited { name: "prices-0".into(), pid: 7, how, ran_ms: 1_500, restart_in_ms: 100 };
        assert_eq!(
            serde_json::to_string(&TimedEvent { time: "2026-01-02T03:04:05.000000Z".into(), event: &event }).unwrap(),
            r#"{"time":"2026-01-02T03:04:05.000000Z","event":"exited","name":"prices-0","pid":7,"signal":9,"ran_ms":1500,"restart_in_ms":100}"#
        );
        assert_eq!(event.to_string(), "prices-0 ended: signal 9 (pid 7, ran for 1.5 s); restart in 0.1 s");
        let applied = Event::Applied { took_ms: 0 };
        assert_eq!(applied.to_string(), "manifest applied after 0.0 s");
    }

    #[test]
    fn keeps_the_documented_names_of_actions_and_signals() {
        let step = Event::Step { name: "prices-0".into(), action: StepAction::Undrain, reason: String::new() };
        assert_eq!(serde_json::to_value(step).unwrap()["action"], "undrain");
        let stopping = Event::Stopping { reason: StopSignal::Int, connections: 1, grace_ms: 5_000 };
        assert_eq!(serde_json::to_value(stopping).unwrap()["reason"], "SIGINT");
    }

    #[test]
    fn names_restarts_differently_from_starts() {
        let addr = "127.0.0.1:1".parse().unwrap();
        let at = ListeningChild { name: "prices-0".into(), pid: 7, ws: addr, admin: addr, restarts: 1 };
        let json = serde_json::to_value(Event::Restarted(at)).unwrap();
        assert_eq!(json["event"], "restarted");
        assert_eq!(json["restarts"], 1);
    }
}
