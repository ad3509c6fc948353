//! What happens to a run, as one JSON object a line for programs and one sentence for people.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

/// Something that happened. Members are part of the documented output: `docs/local.md`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A child listens for the first time.
    Started(Listening),
    /// A child listens again.
    Restarted(Listening),
    /// A child ended by itself.
    Exited {
        /// Its name.
        name: Arc<str>,
        /// Its process.
        pid: u32,
        /// How.
        #[serde(flatten)]
        how: Exit,
        /// How long it ran.
        ran_ms: u64,
        /// When it starts again.
        restart_in_ms: u64,
    },
    /// A child runs but has not answered for long: it is ended, and starts again.
    Hung {
        /// Its name.
        name: Arc<str>,
        /// Its process.
        pid: u32,
        /// Since its last answer.
        silent_ms: u64,
    },
    /// A child keeps ending soon after its start; it is started again, ever later.
    CrashLoop {
        /// Its name.
        name: Arc<str>,
        /// Short lives in a row.
        exits: u32,
        /// When it starts again.
        restart_in_ms: u64,
        /// Its last log lines.
        log: Vec<String>,
    },
    /// A child could not be started.
    SpawnFailed {
        /// Its name.
        name: Arc<str>,
        /// Why.
        error: String,
        /// When it is tried again.
        restart_in_ms: u64,
    },
    /// The manifest was edited, and the run follows.
    Edited {
        /// Fields that differ, from what to what.
        changes: Vec<String>,
    },
    /// The manifest was edited, and nothing follows from it.
    EditRefused {
        /// What is wrong with it, and the remedy.
        error: String,
    },
    /// The connections ask for another number of shards.
    Scaled {
        /// Wanted until now.
        from: u32,
        /// Wanted now.
        to: u32,
        /// Why.
        reason: String,
    },
    /// A step towards what the manifest says.
    Step {
        /// The child.
        name: Arc<str>,
        /// `start`, `drain`, `undrain`, `restart` or `remove`.
        action: &'static str,
        /// Why, with the numbers.
        reason: String,
    },
    /// The next step cannot start.
    Blocked {
        /// Why.
        reason: String,
    },
    /// A child that was taken away has ended.
    Removed {
        /// Its name.
        name: Arc<str>,
        /// Whether it had to be killed.
        killed: bool,
    },
    /// All is as the manifest says.
    Applied {
        /// Since the last edit.
        took_ms: u64,
    },
    /// Something needs attention: a part is not ready, or ready again.
    Status {
        /// `healthy`, `degraded` or `unhealthy`.
        status: wscluster_admin::health::Status,
        /// What is wrong; empty when healthy.
        reasons: Vec<String>,
    },
    /// The run ends: connections are moved away first.
    Stopping {
        /// `signal` or `hangup`.
        reason: &'static str,
        /// Connections held now.
        connections: u64,
        /// Time for them to move.
        grace_ms: u64,
    },
    /// The run has ended.
    Stopped {
        /// Connections that were still there when the children were told to end.
        left: u64,
        /// Children that did not end by themselves.
        killed: Vec<Arc<str>>,
    },
    /// Events that the reader of standard output was too slow for.
    Lost {
        /// How many.
        lines: u64,
    },
    /// The run could not start.
    Failed {
        /// Why, with the remedy.
        error: String,
    },
}

/// An event as programs get it: with the time at which it was told.
#[derive(Debug, Serialize)]
pub struct Timed<'a> {
    /// RFC 3339, UTC.
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub event: &'a Event,
}

/// A child that listens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listening {
    /// Its name.
    pub name: Arc<str>,
    /// Its process.
    pub pid: u32,
    /// Where clients connect.
    pub ws: SocketAddr,
    /// Where its health is.
    pub admin: SocketAddr,
    /// Restarts so far.
    pub restarts: u32,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Exit {
    /// Exit code, when it ended by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        Self { code: status.code(), signal: status.signal() }
    }
}

impl fmt::Display for Exit {
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
                "{name} ended by {how} (pid {pid}, ran {}); starts again in {}",
                seconds(*ran_ms),
                seconds(*restart_in_ms)
            ),
            Self::Hung { name, pid, silent_ms } => write!(
                f,
                "{name} hangs: pid {pid} runs but has not answered for {}; it is ended and starts again",
                seconds(*silent_ms)
            ),
            Self::CrashLoop { name, exits, restart_in_ms, log } => {
                write!(
                    f,
                    "{name} is in a crash loop: ended {exits} times in a row soon after its start; next try in {}; \
                     its last lines:",
                    seconds(*restart_in_ms)
                )?;
                log.iter().try_for_each(|line| write!(f, "\n    {line}"))
            }
            Self::SpawnFailed { name, error, restart_in_ms } => {
                write!(f, "{name}: {error}; next try in {}", seconds(*restart_in_ms))
            }
            Self::Edited { changes } if changes.is_empty() => {
                f.write_str("manifest edited: it asks for nothing else than before")
            }
            Self::Edited { changes } => write!(f, "manifest edited: {}", changes.join(", ")),
            Self::EditRefused { error } => write!(f, "manifest edited, and all stays as it is: {error}"),
            Self::Scaled { from, to, reason } => write!(f, "{from} shards become {to}: {reason}"),
            Self::Step { name, reason, .. } => write!(f, "{name} {reason}"),
            Self::Blocked { reason } => write!(f, "waiting: {reason}"),
            Self::Removed { name, killed: false } => write!(f, "{name} has ended"),
            Self::Removed { name, killed: true } => write!(f, "{name} had to be killed"),
            Self::Applied { took_ms } => {
                write!(f, "all is as the manifest says, after {}", seconds(*took_ms))
            }
            Self::Status { status: wscluster_admin::health::Status::Healthy, .. } => f.write_str("all parts are ready"),
            Self::Status { reasons, .. } => write!(f, "not all is well: {}", reasons.join("; ")),
            Self::Stopping { connections, grace_ms, .. } => write!(
                f,
                "stopping: moving {connections} connections away within {} (Ctrl-C again ends at once)",
                seconds(*grace_ms)
            ),
            Self::Stopped { left, killed } if killed.is_empty() => {
                write!(f, "stopped: every process ended, {left} connections were left at the end")
            }
            Self::Stopped { left, killed } => {
                write!(f, "stopped: {} had to be killed, {left} connections were left at the end", killed.join(", "))
            }
            Self::Lost { lines } => write!(f, "{lines} lines lost: nobody read them"),
            Self::Failed { error } => f.write_str(error),
        }
    }
}

fn seconds(millis: u64) -> String {
    format!("{:.1} s", Duration::from_millis(millis).as_secs_f64())
}

/// Whole milliseconds.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_programs_how_a_child_ended() {
        let how = Exit { code: None, signal: Some(9) };
        let event = Event::Exited { name: "prices-0".into(), pid: 7, how, ran_ms: 1_500, restart_in_ms: 100 };
        assert_eq!(
            serde_json::to_string(&Timed { time: "2026-01-02T03:04:05.000000Z".into(), event: &event }).unwrap(),
            r#"{"time":"2026-01-02T03:04:05.000000Z","event":"exited","name":"prices-0","pid":7,"signal":9,"ran_ms":1500,"restart_in_ms":100}"#
        );
        assert_eq!(event.to_string(), "prices-0 ended by signal 9 (pid 7, ran 1.5 s); starts again in 0.1 s");
        let applied = Event::Applied { took_ms: 0 };
        assert_eq!(applied.to_string(), "all is as the manifest says, after 0.0 s");
    }

    #[test]
    fn names_restarts_apart_from_starts() {
        let addr = "127.0.0.1:1".parse().unwrap();
        let at = Listening { name: "prices-0".into(), pid: 7, ws: addr, admin: addr, restarts: 1 };
        let json = serde_json::to_value(Event::Restarted(at)).unwrap();
        assert_eq!(json["event"], "restarted");
        assert_eq!(json["restarts"], 1);
    }
}
