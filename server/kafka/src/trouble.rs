//! Current troubles of the source. A trouble is logged when it begins and when it is over, and `/health` shows it in
//! between.
//!
//! Logging is rate-limited by kind, so a stream of bad records or a flapping broker cannot flood the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wscluster_runtime::log_limit::LogLimit;

use super::encode::Skip;

/// Kinds of trouble; there is at most one of each kind at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// No broker answers.
    Connection,
    /// The end offsets of some partitions are unknown.
    Partitions,
    /// Some partitions have no leader.
    Leaderless,
    /// The history of some partitions does not arrive.
    Unread,
    /// Kafka refuses a fetch.
    Fetch,
    /// A topic does not exist or may not be read.
    Topic(String),
    /// Records wait longer than is tolerated.
    Behind,
    /// Records are skipped for this reason.
    Skipped(Skip),
}

#[derive(Debug)]
struct Entry {
    text: String,
    /// When it ends by itself; `None`: when it is cleared.
    until: Option<Instant>,
}

/// The troubles of a source. See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    now: BTreeMap<Kind, Entry>,
    logged: BTreeMap<Kind, LogLimit>,
}

impl Troubles {
    /// Shortest time between two log lines of a kind.
    const LOG_EVERY: Duration = Duration::from_secs(10);
    /// How long a trouble that nothing clears is shown after its last occurrence.
    const SHOWN: Duration = Duration::from_mins(1);

    /// Begins a trouble that lasts until [`Troubles::clear`].
    pub(super) fn set(&self, kind: Kind, text: impl Into<String>) {
        self.enter(kind, text.into(), None);
    }

    /// Reports a trouble that nothing clears: it is shown for [`Self::SHOWN`].
    pub(super) fn flash(&self, kind: Kind, text: impl Into<String>) {
        self.enter(kind, text.into(), Some(Instant::now() + Self::SHOWN));
    }

    /// Ends a trouble.
    pub(super) fn clear(&self, kind: &Kind) {
        if self.lock().now.remove(kind).is_some() {
            tracing::info!(trouble = ?kind, "kafka trouble over");
        }
    }

    /// The current troubles as one text; `None` when there are none.
    pub(super) fn summary(&self) -> Option<String> {
        let mut state = self.lock();
        let now = Instant::now();
        state.now.retain(|_, entry| entry.until.is_none_or(|until| now < until));
        let texts: Vec<&str> = state.now.values().map(|entry| entry.text.as_str()).take(4).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    fn enter(&self, kind: Kind, text: String, until: Option<Instant>) {
        let mut state = self.lock();
        let same = state.now.get(&kind).is_some_and(|entry| entry.until.is_none() && entry.text == text);
        let log = state.logged.entry(kind.clone()).or_insert_with(|| LogLimit::new(1, Self::LOG_EVERY));
        if !same && let Some(suppressed) = log.admit() {
            tracing::warn!(trouble = ?kind, times = suppressed + 1, "{text}");
        }
        state.now.insert(kind, Entry { text, until });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_a_trouble_until_it_is_cleared() {
        let troubles = Troubles::default();
        assert_eq!(troubles.summary(), None);
        troubles.set(Kind::Connection, "no broker answers");
        troubles.set(Kind::Topic("a".into()), "topic a is missing");
        assert_eq!(troubles.summary().unwrap(), "no broker answers; topic a is missing");
        troubles.clear(&Kind::Connection);
        assert_eq!(troubles.summary().unwrap(), "topic a is missing");
    }
}
