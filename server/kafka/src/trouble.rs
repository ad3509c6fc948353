//! What is wrong with the source now: each trouble is logged when it begins and when it is over, and stands in `/health`
//! meanwhile.
//!
//! Logging is rate-limited by kind, so that a stream of bad records or a broker that comes and goes cannot flood a log.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wscluster_runtime::log_limit::LogLimit;

/// What a trouble is about; one at a time of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// No broker answers.
    Connection,
    /// The ends of some partitions are not known.
    Partitions,
    /// Some partitions have no leader.
    Leaderless,
    /// The history of some partitions does not come.
    Unread,
    /// Kafka refuses to give records.
    Fetch,
    /// A topic is missing or may not be read.
    Topic(String),
    /// Records wait too long.
    Behind,
    /// Records are skipped, for this reason.
    Skipped(&'static str),
}

#[derive(Debug)]
struct Entry {
    text: String,
    /// When it counts as over by itself; none: when it is cleared.
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
    /// How long a trouble that nothing clears is shown after it last came up.
    const SHOWN: Duration = Duration::from_mins(1);

    /// Something is wrong until [`Troubles::clear`].
    pub(super) fn set(&self, kind: Kind, text: impl Into<String>) {
        self.enter(kind, text.into(), None);
    }

    /// Something went wrong just now.
    pub(super) fn flash(&self, kind: Kind, text: impl Into<String>) {
        self.enter(kind, text.into(), Some(Instant::now() + Self::SHOWN));
    }

    /// What was wrong is over.
    pub(super) fn clear(&self, kind: &Kind) {
        if self.lock().now.remove(kind).is_some() {
            tracing::info!(trouble = ?kind, "kafka trouble over");
        }
    }

    /// Everything that is wrong now; none when all is well.
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
