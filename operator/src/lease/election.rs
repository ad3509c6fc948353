//! Decides which process may write: a pure state machine over reads, writes and the time.
//!
//! Clocks of different machines are never compared. The holder counts from the moment it *sent* a renewal, and stops
//! a little before its term ends. A candidate counts from the moment it *read* that renewal, which is later, and
//! waits for the whole term. So the holder has stopped before a candidate may start, as long as both clocks run at
//! nearly the same speed.

use std::time::Duration;

/// A point in time on the monotonic clock of this process.
pub(crate) type Moment = Duration;

/// The content of the Lease object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its resource version, which changes with every write.
    pub(crate) version: String,
    /// The holder; `None` after it was released.
    pub(crate) holder: Option<String>,
    /// How long a renewal is valid, according to its writer.
    pub(crate) term: Duration,
    /// How often the holder changed.
    pub(crate) transitions: i32,
}

/// The next action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Read the object.
    Read,
    /// Create it, with this process as holder.
    Create,
    /// Write this process as the new holder, on condition that the version is unchanged.
    Claim(Record),
    /// Renew it, on condition that the version is unchanged.
    Renew(Record),
    /// Another process holds it: read it again later.
    Wait,
}

/// The election from the perspective of one process.
#[derive(Debug)]
pub(crate) struct Election {
    me: String,
    term: Duration,
    seen: LastSeen,
    until: Option<Moment>,
}

#[derive(Debug)]
enum LastSeen {
    Nothing,
    Absent,
    Record(Record, Moment),
}

impl Election {
    /// `me` is the unique name of this process, and `term` how long a renewal is valid.
    pub(crate) fn new(me: impl Into<String>, term: Duration) -> Self {
        Self { me: me.into(), term, seen: LastSeen::Nothing, until: None }
    }

    pub(crate) fn me(&self) -> &str {
        &self.me
    }

    /// How long a renewal is valid.
    pub(crate) fn term(&self) -> Duration {
        self.term
    }

    /// Interval of renewals: two may fail before the lease is lost.
    pub(crate) fn pace(&self) -> Duration {
        self.term / 3
    }

    /// Until when this process may write.
    pub(crate) fn until(&self) -> Option<Moment> {
        self.until
    }

    /// The object was read at `now`; `None` if it does not exist.
    pub(crate) fn read(&mut self, record: Option<Record>, now: Moment) {
        let Some(record) = record else {
            self.until = None;
            self.seen = LastSeen::Absent;
            return;
        };
        if record.holder.as_deref() != Some(&self.me) {
            self.until = None;
        }
        match &self.seen {
            // Only a change restarts the term of the holder.
            LastSeen::Record(known, _) if known.version == record.version => {}
            _ => self.seen = LastSeen::Record(record, now),
        }
    }

    /// A write sent at `sent` succeeded, with this result.
    pub(crate) fn written(&mut self, record: Record, sent: Moment) {
        // A tenth of the term is kept for clocks of different speed, and for writes in flight when the term ends.
        self.until = Some(sent + self.term / 10 * 9);
        self.seen = LastSeen::Record(record, sent);
    }

    /// A request failed, or its outcome is unknown: the known record may be outdated. A held lease remains held.
    pub(crate) fn unsure(&mut self) {
        self.seen = LastSeen::Nothing;
    }

    /// This process stops writing.
    pub(crate) fn stop(&mut self) {
        self.until = None;
    }

    /// The next action at `now`.
    pub(crate) fn next(&self, now: Moment) -> Next {
        match &self.seen {
            LastSeen::Nothing => Next::Read,
            LastSeen::Absent => Next::Create,
            LastSeen::Record(record, since) => match &record.holder {
                Some(holder) if *holder == self.me => Next::Renew(record.clone()),
                Some(_) if now < *since + record.term.max(self.term) => Next::Wait,
                _ => Next::Claim(record.clone()),
            },
        }
    }
}

#[cfg(test)]
mod tests;
