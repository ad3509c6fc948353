//! Why a step is what it is. Displayed without the shard's name, which goes before: `prices-4 drains: 1,203 connections at
//! 100/s, 13 s left`.

use std::fmt;
use std::time::Duration;

/// Why, with the numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It does its work.
    Serves {
        /// Connections it holds.
        connections: u32,
        /// Connections it may hold.
        capacity: u32,
    },
    /// It does not exist yet.
    Created,
    /// An earlier shard of this ordinal has not left yet.
    Predecessor,
    /// It has not turned ready yet.
    Starts {
        /// For how long.
        age: Option<Duration>,
    },
    /// Its process does not run, on the revision that is wanted.
    Fails {
        /// That revision.
        revision: String,
    },
    /// It gives no answer.
    Silent {
        /// For how long.
        age: Option<Duration>,
        /// Time until it goes all the same, where it has to go.
        left: Option<Duration>,
    },
    /// It begins to drain.
    Begins {
        /// Why it has to go.
        cause: Cause,
        /// Connections that move.
        connections: u32,
        /// Connections a second.
        rate: u32,
        /// Free slots on the others.
        free: u32,
    },
    /// It drains.
    Drains {
        /// Connections that are left.
        connections: u32,
        /// Connections a second.
        rate: u32,
        /// Time until it is over.
        left: Duration,
    },
    /// Its drain is taken back.
    Back {
        /// Connections that stay.
        connections: u32,
        /// Why.
        why: Back,
    },
    /// It goes.
    Goes {
        /// Why it has to go.
        cause: Cause,
        /// Why it may go now.
        release: Release,
    },
    /// Its pod is terminating.
    Leaves {
        /// Connections that it still holds.
        connections: u32,
    },
    /// It has to go and cannot yet.
    Waits(Blocked),
}

/// Why a shard has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Fewer shards are wanted.
    Surplus {
        /// So many.
        wanted: u32,
    },
    /// Its pod template has changed.
    Revision {
        /// What it runs.
        from: String,
        /// What is wanted.
        to: String,
    },
}

/// Why a shard that has to go may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It holds nobody and never did.
    HoldsNobody,
    /// Everybody has moved.
    Drained,
    /// Its time is up.
    Deadline {
        /// Connections that it may still hold.
        connections: u32,
    },
}

/// Why a drain is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// The shard is wanted after all.
    Wanted,
    /// Another shard has to go before it.
    Behind {
        /// Which.
        ordinal: u32,
    },
    /// More shards are in motion than allowed.
    InMotion {
        /// So many are allowed.
        most: u32,
    },
    /// No slot is left on the others.
    OthersFull,
    /// The cluster is paused.
    Paused,
}

/// Why a step cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The others have too few free slots for what moves.
    Slots {
        /// The shard that waits.
        ordinal: u32,
        /// Slots that are missing.
        missing: u32,
        /// Slots that are free.
        free: u32,
    },
    /// Slots are missing, and a shard is started to give them.
    Surge {
        /// The new shard.
        ordinal: u32,
        /// Slots that are missing without it.
        missing: u32,
    },
    /// Another shard is not ready yet.
    NotReady {
        /// Which.
        ordinal: u32,
    },
    /// Another shard is ready, and some gateway does not send clients to it yet.
    Unrouted {
        /// Which.
        ordinal: u32,
    },
    /// It cannot be told to drain: the caller's own way to it is broken, as its kubelet finds it ready.
    Unreached {
        /// The shard that waits.
        ordinal: u32,
        /// Connections that it held when it was last heard.
        connections: u32,
        /// For how long it has given no answer.
        age: Option<Duration>,
    },
    /// A person has to approve the step.
    Approval {
        /// The shard that waits.
        ordinal: u32,
    },
    /// Another shard goes first.
    Behind {
        /// Which.
        ordinal: u32,
    },
    /// As many shards are in motion as may be.
    InMotion {
        /// So many may be.
        most: u32,
    },
    /// The cluster is paused.
    Paused,
}

impl Blocked {
    /// Whether this needs more than a little time: slots, a healthy shard, or a person.
    pub(crate) const fn is_lasting(&self) -> bool {
        use Blocked::{Approval, NotReady, Paused, Slots, Unreached, Unrouted};
        matches!(self, Slots { .. } | NotReady { .. } | Unrouted { .. } | Unreached { .. } | Approval { .. } | Paused)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serves { connections, capacity } => {
                write!(f, "serves {} of {} connections", Grouped(*connections), Grouped(*capacity))
            }
            Self::Created => f.write_str("is being created"),
            Self::Predecessor => f.write_str("waits: the shard that had this ordinal has not left yet"),
            Self::Starts { age: None } => f.write_str("starts"),
            Self::Starts { age: Some(age) } => write!(f, "starts, for {}", Seconds(*age)),
            Self::Fails { revision } => write!(f, "fails on revision {revision}, which is the wanted one"),
            Self::Silent { age, left } => {
                f.write_str("is silent")?;
                age.map_or(Ok(()), |age| write!(f, " for {}", Seconds(age)))?;
                left.map_or(Ok(()), |left| write!(f, ", goes in {}", Seconds(left)))
            }
            Self::Begins { cause, connections, rate, free } => {
                let (connections, free) = (Grouped(*connections), Grouped(*free));
                write!(
                    f,
                    "drains: {connections} connections at {}/s, {free} slots free, because {cause}",
                    Grouped(*rate)
                )
            }
            Self::Drains { connections, rate, left } => {
                let (connections, rate) = (Grouped(*connections), Grouped(*rate));
                write!(f, "drains: {connections} connections at {rate}/s, {} left", Seconds(*left))
            }
            Self::Back { connections, why } => {
                write!(f, "takes upgrades again with {} connections: {why}", Grouped(*connections))
            }
            Self::Goes { cause, release } => write!(f, "goes, because {cause}: {release}"),
            Self::Leaves { connections: 0 } => f.write_str("leaves"),
            Self::Leaves { connections } => write!(f, "leaves with {} connections", Grouped(*connections)),
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
            Self::HoldsNobody => f.write_str("it holds nobody"),
            Self::Drained => f.write_str("everybody has moved"),
            Self::Deadline { connections } => {
                write!(f, "its deadline has passed with {} connections", Grouped(*connections))
            }
        }
    }
}

impl fmt::Display for Back {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted => f.write_str("it is wanted"),
            Self::Behind { ordinal } => write!(f, "shard {ordinal} goes first"),
            Self::InMotion { most } => write!(f, "{most} may be in motion"),
            Self::OthersFull => f.write_str("no slot is left on the other shards"),
            Self::Paused => f.write_str("the cluster is paused"),
        }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slots { missing, .. } => write!(f, "{} slots missing on the other shards", Grouped(*missing)),
            Self::Surge { ordinal, missing } => {
                write!(f, "{} slots missing on the other shards, shard {ordinal} gives them", Grouped(*missing))
            }
            Self::NotReady { ordinal } => write!(f, "shard {ordinal} is not ready"),
            Self::Unrouted { ordinal } => write!(f, "not every gateway knows shard {ordinal} yet"),
            Self::Unreached { ordinal, connections, age } => {
                write!(f, "shard {ordinal}, with {} connections, is ready to its kubelet", Grouped(*connections))?;
                f.write_str(" and gives no answer to the operator")?;
                age.map_or(Ok(()), |age| write!(f, ", for {}", Seconds(age)))?;
                f.write_str(": is the way to its admin port open?")
            }
            Self::Approval { .. } => f.write_str("a person has to approve it"),
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
    fn tells_the_numbers_behind_a_step() {
        let drains = Reason::Drains { connections: 1_203, rate: 100, left: Duration::from_millis(12_030) };
        assert_eq!(drains.to_string(), "drains: 1,203 connections at 100/s, 13 s left");
        let waits = Reason::Waits(Blocked::Slots { ordinal: 4, missing: 812, free: 391 });
        assert_eq!(waits.to_string(), "waits: 812 slots missing on the other shards");
        let release = Release::Deadline { connections: 3 };
        let goes = Reason::Goes { cause: Cause::Surplus { wanted: 2 }, release };
        assert_eq!(goes.to_string(), "goes, because 2 shards are wanted: its deadline has passed with 3 connections");
    }

    #[test]
    fn groups_digits_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (123_456, "123,456"), (1_000_000, "1,000,000")]
        {
            assert_eq!(Grouped(number).to_string(), text);
        }
    }
}
