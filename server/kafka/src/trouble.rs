//! Current troubles of the source. A trouble is logged when it begins and when it is over, and `/health` shows it in
//! between; the operator copies it into the condition `Degraded`. The texts of all troubles are those of [`Trouble`].
//!
//! Logging is rate-limited by kind, so a stream of bad records or a flapping broker cannot flood the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use wscluster_runtime::log_limit::LogLimit;

use super::encode::Skip;
use super::lag_age::LagAge;
use super::offsets::OffsetsError;

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

/// A trouble, with what its text needs.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble<'a> {
    #[error("{error}{}", explain(reason))]
    Connection { error: &'a dyn std::error::Error, reason: &'a str },
    #[error("{0}")]
    Partitions(OffsetsError),
    #[error("{}", leaderless(partitions))]
    Leaderless { partitions: &'a [String] },
    #[error(
        "records of {topic} [{partition}]{} do not come: the others are served without; check the topic's brokers and \
         this user's right to READ it", and_more(*others)
    )]
    Unread { topic: &'a str, partition: i32, others: usize },
    #[error("failed to assign partitions: {0}")]
    Assign(KafkaError),
    #[error("failed to read: {error}; {reason}")]
    Fetch { error: &'a KafkaError, reason: &'a str },
    #[error("no right to read topic {topic}; grant this user READ on it")]
    TopicUnreadable { topic: &'a str },
    #[error("no right to topic {topic}; grant this user DESCRIBE and READ on it")]
    TopicForbidden { topic: &'a str },
    #[error("topic {topic} does not exist; it is read as soon as it does")]
    TopicMissing { topic: &'a str },
    #[error("failed to describe topic {topic}: {code}")]
    TopicUnknown { topic: &'a str, code: RDKafkaErrorCode },
    #[error("{error}")]
    TopicOffsets { topic: &'a str, error: OffsetsError },
    #[error("records wait for more than {} s: messages are late, none is dropped", LagAge::TOLERATED.as_secs())]
    Behind,
    // One text for each topic and reason, with the place of the last record.
    #[error("records of {topic} are skipped: they {complaint} (last: partition {partition}, offset {offset})")]
    Skipped { skip: Skip, complaint: &'static str, topic: &'a str, partition: i32, offset: i64 },
}

impl Trouble<'_> {
    fn kind(&self) -> Kind {
        match *self {
            Self::Connection { .. } => Kind::Connection,
            Self::Partitions(_) => Kind::Partitions,
            Self::Leaderless { .. } => Kind::Leaderless,
            Self::Unread { .. } => Kind::Unread,
            Self::Assign(_) | Self::Fetch { .. } => Kind::Fetch,
            Self::TopicUnreadable { topic }
            | Self::TopicForbidden { topic }
            | Self::TopicMissing { topic }
            | Self::TopicUnknown { topic, .. }
            | Self::TopicOffsets { topic, .. } => Kind::Topic(topic.to_owned()),
            Self::Behind => Kind::Behind,
            Self::Skipped { skip, .. } => Kind::Skipped(skip),
        }
    }
}

impl Skip {
    /// The sentence after the topic, in [`Trouble::Skipped`]; `None` where skipping is intended.
    pub(super) fn complaint(self) -> Option<&'static str> {
        Some(match self {
            Self::NoKey => "have no key, which their channel is made of; give record.missing to publish them",
            Self::KeyNotText => "have a key that is not UTF-8, and their channel is made of it",
            Self::NoHeader => "lack a header that their channel is made of; give record.missing to publish them",
            Self::HeaderNotText => "have a header that is not UTF-8, and their channel is made of it",
            Self::ChannelEmpty => "have an empty channel name",
            Self::ChannelTooLong => "have a channel name above 256 bytes",
            Self::ChannelControl => "have a control character in their channel name",
            Self::NotJson => "are not JSON, as record.value asks",
            Self::NotText => "are not UTF-8, as record.value asks",
            Self::TooLarge => "are larger than a client's queue (delivery.maxQueueBytes)",
            Self::Tombstone => return None,
        })
    }
}

/// The last error of librdkafka as the end of a sentence, with a remedy where there is one.
fn explain(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason if reason.contains("certificate verify failed") => format!(
            "; the broker's certificate is out of date, signed by an authority that is not trusted \
             (source.kafka.security.tls.ca), or made out to another name: {reason}"
        ),
        reason => format!("; {reason}"),
    }
}

fn leaderless(partitions: &[String]) -> String {
    match partitions {
        [] => String::new(),
        [one] => format!("partition {one} has no leader: nothing of it can be read until its brokers are back"),
        [first, rest @ ..] => format!(
            "partition {first} and {} more have no leader: nothing of them can be read until their brokers are back",
            rest.len()
        ),
    }
}

fn and_more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" and {others} more") }
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
    /// How long a refused fetch or a skipped record is shown after its last occurrence.
    const SHOWN: Duration = Duration::from_mins(1);

    /// Reports a trouble. It lasts until [`Self::clear`], or for [`Self::SHOWN`] if it is a single occurrence: a
    /// refused fetch or a skipped record.
    pub(super) fn report(&self, trouble: &Trouble<'_>) {
        let kind = trouble.kind();
        let passes = matches!(kind, Kind::Fetch | Kind::Skipped(_));
        self.enter(kind, trouble.to_string(), passes.then(|| Instant::now() + Self::SHOWN));
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
        let missing = "topic a does not exist; it is read as soon as it does";
        troubles.report(&Trouble::TopicMissing { topic: "a" });
        assert_eq!(troubles.summary().unwrap(), missing);
        troubles.report(&Trouble::Leaderless { partitions: &["b [0]".to_owned(), "b [1]".to_owned()] });
        let leaderless = "partition b [0] and 1 more have no leader: \
                          nothing of them can be read until their brokers are back";
        assert_eq!(troubles.summary().unwrap(), format!("{leaderless}; {missing}"));
        troubles.clear(&Kind::Leaderless);
        assert_eq!(troubles.summary().unwrap(), missing);
    }
}
