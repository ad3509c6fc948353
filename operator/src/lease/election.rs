//! Who may write, as a pure state machine over what was read, what was written and the time.
//!
//! No two machines' clocks are compared. A holder counts from the moment it *sent* a renewal and stops a little before the term is
//! over; a candidate counts from the moment it *saw* that renewal, which is later, and waits for the whole term. So the one has
//! stopped before the other may begin, as long as both clocks run at nearly the same speed.

use std::time::Duration;

/// A moment on this process's own monotonic clock: the time since a start of its choice.
pub(crate) type Moment = Duration;

/// What the Lease object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Changes with every write of it: its resource version.
    pub version: String,
    /// Who holds it; none when it was given up.
    pub holder: Option<String>,
    /// How long a renewal is good for, by the word of whoever wrote it.
    pub term: Duration,
    /// How often it changed hands.
    pub transitions: i32,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Read the object: nothing is known of it.
    Read,
    /// Create it, with this process as holder.
    Create,
    /// Write this process into it as a new holder, on condition that it still has the version.
    Claim(Record),
    /// Write it again, on condition that it still has the version.
    Renew(Record),
    /// Somebody else holds it: read it again later.
    Wait,
}

/// The election as one process sees it.
#[derive(Debug)]
pub(crate) struct Election {
    me: String,
    term: Duration,
    seen: Seen,
    until: Option<Moment>,
}

#[derive(Debug)]
enum Seen {
    Nothing,
    Absent,
    Record(Record, Moment),
}

impl Election {
    /// For a process of this unique name that holds the lease for `term` at a time.
    pub(crate) fn new(me: impl Into<String>, term: Duration) -> Self {
        Self { me: me.into(), term, seen: Seen::Nothing, until: None }
    }

    /// Its name.
    pub(crate) fn me(&self) -> &str {
        &self.me
    }

    /// How long a renewal is good for.
    pub(crate) fn term(&self) -> Duration {
        self.term
    }

    /// Time between two renewals: two may fail before the lease is lost.
    pub(crate) fn pace(&self) -> Duration {
        self.term / 3
    }

    /// Until when this process may write.
    pub(crate) fn until(&self) -> Option<Moment> {
        self.until
    }

    /// The object was read at `now`; none: there is no such object.
    pub(crate) fn read(&mut self, record: Option<Record>, now: Moment) {
        let Some(record) = record else {
            self.until = None;
            self.seen = Seen::Absent;
            return;
        };
        if record.holder.as_deref() != Some(&self.me) {
            self.until = None;
        }
        match &self.seen {
            // Only a change starts the clock of a holder anew.
            Seen::Record(known, _) if known.version == record.version => {}
            _ => self.seen = Seen::Record(record, now),
        }
    }

    /// A write that was sent at `sent` was taken, and made the object this.
    pub(crate) fn written(&mut self, record: Record, sent: Moment) {
        // A tenth of the term for clocks that run at different speed, and for a write that is under way when the term ends.
        self.until = Some(sent + self.term / 10 * 9);
        self.seen = Seen::Record(record, sent);
    }

    /// A write failed, or its fate is not known: what was seen may be out of date. What is held stays held.
    pub(crate) fn unsure(&mut self) {
        self.seen = Seen::Nothing;
    }

    /// This process stops writing now.
    pub(crate) fn stop(&mut self) {
        self.until = None;
    }

    /// What to do at `now`.
    pub(crate) fn next(&self, now: Moment) -> Next {
        match &self.seen {
            Seen::Nothing => Next::Read,
            Seen::Absent => Next::Create,
            Seen::Record(record, since) => match &record.holder {
                Some(holder) if *holder == self.me => Next::Renew(record.clone()),
                Some(_) if now < *since + record.term.max(self.term) => Next::Wait,
                _ => Next::Claim(record.clone()),
            },
        }
    }
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
