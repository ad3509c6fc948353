//! How a handshake ends: with exactly one of these outcomes, counted once, with its phase times (invariant A4).

use std::time::{Duration, Instant};

use wscluster_ws::upgrade::{AnswerError, Refusal};

/// The end of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// The 101 was written: a tunnel is open.
    Upgraded,
    /// The gateway refused the request without asking a shard.
    Refused(Refusal),
    /// No shard had a slot: 503.
    Unavailable(Unavailable),
    /// A shard answered with this final status, which was relayed.
    Relayed(u16),
    /// The client disconnected, or its socket failed, before the 101 was written.
    ClientGone(Phase),
    /// The client disconnected without sending a byte, as a port check does.
    Idle,
    /// The process ended the handshake: at its end, or by a fault.
    Aborted,
}

impl Outcome {
    /// Two labels of a closed set: what happened, and the reason.
    pub(crate) fn labels(self) -> (&'static str, &'static str) {
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

    /// Whether it is logged.
    pub(crate) const fn is_failure(self) -> bool {
        !matches!(self, Self::Upgraded | Self::Idle)
    }
}

/// All that [`Outcome::labels`] can give: their series exist from the start.
pub(crate) fn all_labels() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = |outcome: &'static str| move |reason: &'static str| (outcome, reason);
    [("upgraded", ""), ("idle", ""), ("aborted", "")]
        .into_iter()
        .chain(Refusal::CODES.map(of("refused")))
        .chain(Unavailable::ALL.map(Unavailable::code).map(of("unavailable")))
        .chain(["3xx", "401", "403", "404", "other"].map(of("relayed")))
        .chain(Phase::ALL.map(Phase::name).map(of("client_gone")))
}

/// All that [`Retry::code`] can give.
pub(crate) const CAUSES: [&str; 17] = [
    "full",
    "draining",
    "starting",
    "fd_limit",
    "contradiction",
    "port_limit",
    "dial",
    "timeout",
    "closed",
    "malformed_answer",
    "answer_too_large",
    "bad_upgrade",
    "bad_connection",
    "bad_accept_key",
    "interim_answer",
    "status_2xx",
    "status_5xx",
];

/// Why a valid request gets 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unavailable {
    /// No slot became free while the client waited.
    NoCapacity,
    /// The queue is full.
    QueueFull,
    /// No shard is reachable and ready.
    NoShard,
    /// Shards were asked until the deadline.
    Timeout,
    /// The gateway has reached its limit of open files.
    FdLimit,
    /// The gateway has no local port left for connections to the shards that have room.
    PortLimit,
    /// The gateway drains.
    Draining,
}

impl Unavailable {
    const ALL: [Self; 7] = [
        Self::NoCapacity,
        Self::QueueFull,
        Self::NoShard,
        Self::Timeout,
        Self::FdLimit,
        Self::PortLimit,
        Self::Draining,
    ];

    /// The word in the answer and in metric labels.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::NoCapacity => "no_capacity",
            Self::QueueFull => "queue_full",
            Self::NoShard => "no_shard",
            Self::Timeout => "timeout",
            Self::FdLimit => "fd_limit",
            Self::PortLimit => "port_limit",
            Self::Draining => "draining",
        }
    }
}

/// Why an attempt failed, so that another shard is asked or the client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Retry {
    /// 503 `full`: the table was wrong (a misroute).
    Full,
    /// 503 `draining`.
    Draining,
    /// 503 `starting`.
    Starting,
    /// 503 `fd_limit`: the shard may not open more files.
    FdLimit,
    /// 503 `full` from a shard whose load shows free slots.
    Contradiction,
    /// This gateway has no local port left for a connection to the shard.
    PortLimit,
    /// The connection failed.
    Dial,
    /// No answer in `shardTimeout`.
    Timeout,
    /// The shard closed the connection before its answer was complete.
    Closed,
    /// The answer is not a valid answer to an upgrade.
    Answer(AnswerError),
    /// A status that is not final: 2xx, 5xx.
    Status(u16),
}

impl Retry {
    /// The word in logs and metric labels.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Draining => "draining",
            Self::Starting => "starting",
            Self::FdLimit => "fd_limit",
            Self::Contradiction => "contradiction",
            Self::PortLimit => "port_limit",
            Self::Dial => "dial",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Answer(error) => error.code(),
            Self::Status(200..=299) => "status_2xx",
            Self::Status(_) => "status_5xx",
        }
    }

    /// Whether the shard is at fault, so that other shards are preferred for a while.
    pub(crate) const fn is_fault(self) -> bool {
        !self.is_refusal() && !matches!(self, Self::PortLimit)
    }

    /// Whether the shard had a reason to grant no slot.
    pub(crate) const fn is_refusal(self) -> bool {
        matches!(self, Self::Full | Self::Draining | Self::Starting | Self::FdLimit)
    }
}

/// A phase of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
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
    /// All phases, in order.
    pub(crate) const ALL: [Self; 6] = [Self::Head, Self::Queue, Self::Pick, Self::Dial, Self::Answer, Self::Write];

    /// The word in logs and metric labels.
    pub(crate) const fn name(self) -> &'static str {
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

/// Divides the time of a handshake into phases without a gap. Repeated phases (retries) add up.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    start: Instant,
    last: Instant,
    spent: [Duration; Phase::ALL.len()],
}

impl Stopwatch {
    /// Starts at accept.
    pub(crate) fn start() -> Self {
        let start = Instant::now();
        Self { start, last: start, spent: Default::default() }
    }

    /// Counts the time since the last lap as `phase`.
    pub(crate) fn lap(&mut self, phase: Phase) {
        let now = Instant::now();
        self.spent[phase as usize] += now - self.last;
        self.last = now;
    }

    /// Time spent in `phase`.
    pub(crate) fn spent(&self, phase: Phase) -> Duration {
        self.spent[phase as usize]
    }

    /// Time since accept.
    pub(crate) fn total(&self) -> Duration {
        self.last - self.start
    }
}
