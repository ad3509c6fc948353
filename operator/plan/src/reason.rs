//! Why a step is what it is. The text is the end of a sentence that starts with the name of the shard:
//! `prices-4 drains: 1,203 connections at 100/s, 13 s left`.

use std::fmt;
use std::time::Duration;

/// The reason of a step, with its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The shard serves clients.
    Serves {
        /// Connections that it holds.
        connections: u32,
        /// Connections that it may hold.
        capacity: u32,
    },
    /// The shard does not exist yet.
    Created,
    /// The previous pod of this ordinal is still terminating.
    Predecessor,
    /// The shard is not ready yet.
    Starts {
        /// Time since its start.
        age: Option<Duration>,
    },
    /// Its process does not run on the wanted revision.
    Fails {
        /// The wanted revision.
        revision: String,
    },
    /// The shard does not answer.
    Silent {
        /// Time since its last answer.
        age: Option<Duration>,
        /// Time until its deadline, if it must go.
        left: Option<Duration>,
    },
    /// A drain starts.
    Begins {
        /// Why the shard must go.
        cause: Cause,
        /// Connections that move.
        connections: u32,
        /// Connections closed per second.
        rate: u32,
        /// Free slots on the other shards.
        free: u32,
    },
    /// A drain is running.
    Drains {
        /// Remaining connections.
        connections: u32,
        /// Connections closed per second.
        rate: u32,
        /// Expected time until it ends.
        left: Duration,
    },
    /// Its drain is cancelled.
    Undrains {
        /// Connections that stay.
        connections: u32,
        /// Why it is cancelled.
        cause: UndrainCause,
    },
    /// The shard is removed or replaced.
    Goes {
        /// Why it must go.
        cause: Cause,
        /// Why it may go now.
        release: Release,
    },
    /// Its pod is terminating.
    Leaves {
        /// Connections that it still holds.
        connections: u32,
    },
    /// The shard must go and cannot yet.
    Waits(Blocked),
}

/// Why a shard must go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There are more shards than wanted.
    Surplus {
        /// The wanted number of shards.
        wanted: u32,
    },
    /// Its pod template has changed.
    Revision {
        /// The revision that it runs.
        from: String,
        /// The wanted revision.
        to: String,
    },
}

/// Why a shard that must go may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It never accepted a connection.
    Empty,
    /// All of its connections have moved.
    Drained,
    /// Its deadline has passed.
    Deadline {
        /// Connections that it may still hold.
        connections: u32,
    },
}

/// Why a drain is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndrainCause {
    /// The shard is wanted again.
    Wanted,
    /// Another shard must go first.
    Behind {
        /// Ordinal of that shard.
        ordinal: u32,
    },
    /// More shards are in motion than permitted.
    InMotion {
        /// Number of shards that may be in motion.
        most: u32,
    },
    /// No other shard has a free slot.
    OthersFull,
    /// The cluster is paused.
    Paused,
}

/// Why a step cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The other shards have too few free slots.
    Slots {
        /// Ordinal of the shard that waits.
        ordinal: u32,
        /// Missing slots.
        missing: u32,
        /// Free slots.
        free: u32,
    },
    /// Slots are missing, and an extra shard is started to provide them.
    Surge {
        /// Ordinal of the extra shard.
        ordinal: u32,
        /// Missing slots without it.
        missing: u32,
    },
    /// Another shard is not ready.
    NotReady {
        /// Ordinal of that shard.
        ordinal: u32,
    },
    /// Another shard is ready, but not every gateway routes to it yet.
    UnknownToGateways {
        /// Ordinal of that shard.
        ordinal: u32,
    },
    /// The shard cannot be asked to drain: its pod is Ready, but the caller has lost contact.
    Unreachable {
        /// Ordinal of the shard that waits.
        ordinal: u32,
        /// Connections in its last answer.
        connections: u32,
        /// Time since its last answer.
        age: Option<Duration>,
    },
    /// The step requires an approval.
    Approval {
        /// Ordinal of the shard that waits.
        ordinal: u32,
    },
    /// Another shard goes first.
    Behind {
        /// Ordinal of that shard.
        ordinal: u32,
    },
    /// The permitted number of shards is in motion.
    InMotion {
        /// That number.
        most: u32,
    },
    /// The cluster is paused.
    Paused,
}

impl Blocked {
    /// Whether more than a little time is needed: slots, a healthy shard, or a person.
    pub(crate) const fn is_lasting(&self) -> bool {
        use Blocked::{Approval, NotReady, Paused, Slots, UnknownToGateways, Unreachable};
        matches!(
            self,
            Slots { .. } | NotReady { .. } | UnknownToGateways { .. } | Unreachable { .. } | Approval { .. } | Paused
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serves { connections, capacity } => {
                write!(f, "serves {} of {} connections", Grouped(*connections), Grouped(*capacity))
            }
            Self::Created => f.write_str("is being created"),
            Self::Predecessor => f.write_str("waits: the previous pod of this ordinal is still terminating"),
            Self::Starts { age: None } => f.write_str("starts"),
            Self::Starts { age: Some(age) } => write!(f, "has been starting for {}", Seconds(*age)),
            Self::Fails { revision } => write!(f, "fails on the wanted revision {revision}"),
            Self::Silent { age, left } => {
                f.write_str("does not answer")?;
                age.map_or(Ok(()), |age| write!(f, " for {}", Seconds(age)))?;
                left.map_or(Ok(()), |left| write!(f, ", {} until its deadline", Seconds(left)))
            }
            Self::Begins { cause, connections, rate, free } => {
                let (connections, free) = (Grouped(*connections), Grouped(*free));
                let rate = Grouped(*rate);
                write!(f, "drains: {connections} connections at {rate}/s, {free} slots free, because {cause}")
            }
            Self::Drains { connections, rate, left } => {
                let (connections, rate) = (Grouped(*connections), Grouped(*rate));
                write!(f, "drains: {connections} connections at {rate}/s, {} left", Seconds(*left))
            }
            Self::Undrains { connections, cause } => {
                write!(f, "accepts upgrades again with {} connections: {cause}", Grouped(*connections))
            }
            Self::Goes { cause, release } => write!(f, "stops because {cause}: {release}"),
            Self::Leaves { connections: 0 } => f.write_str("is terminating"),
            Self::Leaves { connections } => write!(f, "is terminating with {} connections", Grouped(*connections)),
            Self::Waits(blocked) => write!(f, "waits: {blocked}"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Surplus { wanted: 1 } => f.write_str("1 shard is wanted"),
            Self::Surplus { wanted } => write!(f, "{wanted} shards are wanted"),
            Self::Revision { from, to } => write!(f, "revision {from} becomes {to}"),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it holds no connection"),
            Self::Drained => f.write_str("all connections have moved"),
            Self::Deadline { connections } => {
                write!(f, "its deadline has passed with {} connections", Grouped(*connections))
            }
        }
    }
}

impl fmt::Display for UndrainCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted => f.write_str("it is wanted again"),
            Self::Behind { ordinal } => write!(f, "shard {ordinal} goes first"),
            Self::InMotion { most } => write!(f, "at most {most} may be in motion"),
            Self::OthersFull => f.write_str("the other shards have no free slot"),
            Self::Paused => f.write_str("the cluster is paused"),
        }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slots { missing, .. } => write!(f, "{} slots missing on the other shards", Grouped(*missing)),
            Self::Surge { ordinal, missing } => {
                let missing = Grouped(*missing);
                write!(f, "{missing} slots missing on the other shards, shard {ordinal} is started to provide them")
            }
            Self::NotReady { ordinal } => write!(f, "shard {ordinal} is not ready"),
            Self::UnknownToGateways { ordinal } => write!(f, "not every gateway routes to shard {ordinal} yet"),
            Self::Unreachable { ordinal, connections, age } => {
                write!(f, "the pod of shard {ordinal} is Ready with {} connections,", Grouped(*connections))?;
                f.write_str(" but the shard does not answer the operator")?;
                age.map_or(Ok(()), |age| write!(f, " for {}", Seconds(age)))?;
                f.write_str(": check that the operator can reach its admin port")
            }
            Self::Approval { .. } => f.write_str("the step requires an approval"),
            Self::Behind { ordinal } => write!(f, "shard {ordinal} goes first"),
            Self::InMotion { most: 1 } => f.write_str("another shard is in motion"),
            Self::InMotion { most } => write!(f, "{most} shards are in motion"),
            Self::Paused => f.write_str("the cluster is paused"),
        }
    }
}

/// `1,203`.
struct Grouped(u32);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// `13 s`, rounded up.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_millis().div_ceil(1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_numbers_behind_a_step() {
        let drains = Reason::Drains { connections: 1_203, rate: 100, left: Duration::from_millis(12_030) };
        assert_eq!(drains.to_string(), "drains: 1,203 connections at 100/s, 13 s left");
        let waits = Reason::Waits(Blocked::Slots { ordinal: 4, missing: 812, free: 391 });
        assert_eq!(waits.to_string(), "waits: 812 slots missing on the other shards");
        let release = Release::Deadline { connections: 3 };
        let goes = Reason::Goes { cause: Cause::Surplus { wanted: 2 }, release };
        assert_eq!(goes.to_string(), "stops because 2 shards are wanted: its deadline has passed with 3 connections");
    }

    #[test]
    fn groups_digits_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (123_456, "123,456"), (1_000_000, "1,000,000")]
        {
            assert_eq!(Grouped(number).to_string(), text);
        }
    }
}
