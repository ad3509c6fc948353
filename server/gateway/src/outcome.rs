//! How a handshake ends: in exactly one of these outcomes, counted once, with its phase times (invariant A4).

use std::time::{Duration, Instant};

use wscluster_ws::upgrade::{AnswerError, Refusal};

/// The end of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The 101 was written: a tunnel is open.
    Upgraded,
    /// The request was not one that any shard is asked for.
    Refused(Refusal),
    /// No shard took it: 503.
    Unavailable(Unavailable),
    /// A shard gave this final status; it was relayed.
    Relayed(u16),
    /// The client hung up, or its socket broke, before the 101 was written.
    ClientGone(Phase),
    /// The client connected and left without a byte, as a port check does.
    Idle,
    /// The process ended it: shutdown, or a fault.
    Aborted,
}

impl Outcome {
    /// Two bounded labels: what, and why.
    pub fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Upgraded => ("upgraded", ""),
            Self::Refused(refusal) => ("refused", refusal.code()),
            Self::Unavailable(reason) => ("unavailable", reason.code()),
            Self::Relayed(300..=399) => ("relayed", "3xx"),
            Self::Relayed(401) => ("relayed", "401"),
            Self::Relayed(403) => ("relayed", "403"),
            Self::Relayed(404) => ("relayed", "404"),
            Self::Relayed(_) => ("relayed", "other"),
            Self::ClientGone(phase) => ("client_gone", phase.name()),
            Self::Idle => ("idle", ""),
            Self::Aborted => ("aborted", ""),
        }
    }

    /// Whether it deserves a log line by itself.
    pub const fn is_failure(self) -> bool {
        !matches!(self, Self::Upgraded | Self::Idle)
    }
}

/// Why a good request gets 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailable {
    /// No slot became free while it waited.
    NoCapacity,
    /// Too many wait already.
    QueueFull,
    /// No shard is reachable and ready.
    NoShard,
    /// Shards were tried until the deadline.
    Timeout,
    /// This gateway is at its limit of open files.
    FdLimit,
    /// This gateway shuts down.
    Draining,
}

impl Unavailable {
    /// A word for machines.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoCapacity => "no_capacity",
            Self::QueueFull => "queue_full",
            Self::NoShard => "no_shard",
            Self::Timeout => "timeout",
            Self::FdLimit => "fd_limit",
            Self::Draining => "draining",
        }
    }
}

/// Why another shard, or another wait, is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// 503 `full`: our belief was wrong (a misroute).
    Full,
    /// 503 `draining`.
    Draining,
    /// 503 `starting`.
    Starting,
    /// 503 `fd_limit`: it may not open more files.
    FdLimit,
    /// 503 `full` from a shard that says it has slots.
    Contradiction,
    /// Nobody listens, or no way there.
    Dial,
    /// No answer in `shardTimeout`.
    Timeout,
    /// It hung up before its answer was complete.
    Closed,
    /// Its answer is no answer to an upgrade.
    Answer(AnswerError),
    /// A status that ends nothing: 2xx, 5xx.
    Status(u16),
}

impl Retry {
    /// Label.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Draining => "draining",
            Self::Starting => "starting",
            Self::FdLimit => "fd_limit",
            Self::Contradiction => "contradiction",
            Self::Dial => "dial",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Answer(error) => error.code(),
            Self::Status(200..=299) => "status_2xx",
            Self::Status(_) => "status_5xx",
        }
    }

    /// Whether the shard is at fault, so that others are preferred for a while.
    pub const fn is_fault(self) -> bool {
        !matches!(self, Self::Full | Self::Draining | Self::Starting | Self::FdLimit)
    }
}

/// Where the time of a handshake goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// From accept until the request is complete.
    Head,
    /// Waiting for a slot.
    Queue,
    /// Choosing a shard.
    Pick,
    /// Connecting, until the request is sent.
    Dial,
    /// Until the shard's answer is complete.
    Answer,
    /// Until the 101 is written.
    Write,
}

impl Phase {
    /// All, in order.
    pub const ALL: [Self; 6] = [Self::Head, Self::Queue, Self::Pick, Self::Dial, Self::Answer, Self::Write];

    /// Label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Queue => "queue",
            Self::Pick => "pick",
            Self::Dial => "dial",
            Self::Answer => "answer",
            Self::Write => "write",
        }
    }
}

/// Splits the life of a handshake into phases without a gap; what is repeated (retries) adds up.
#[derive(Debug)]
pub struct Stopwatch {
    start: Instant,
    last: Instant,
    spent: [Duration; Phase::ALL.len()],
}

impl Stopwatch {
    /// At accept.
    pub fn start() -> Self {
        let start = Instant::now();
        Self { start, last: start, spent: Default::default() }
    }

    /// The time since the last lap was `phase`.
    pub fn lap(&mut self, phase: Phase) {
        let now = Instant::now();
        self.spent[phase as usize] += now - self.last;
        self.last = now;
    }

    /// Time spent in `phase`.
    pub fn spent(&self, phase: Phase) -> Duration {
        self.spent[phase as usize]
    }

    /// Time since accept.
    pub fn total(&self) -> Duration {
        self.last - self.start
    }
}
