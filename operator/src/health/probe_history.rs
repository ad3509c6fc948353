//! The history of health requests to one shard: its last answer, and its silence.

use std::time::Duration;

use tokio::time::Instant;
use wscluster_admin::health::{KafkaStatus, ShardHealth, State};

/// Missing answers in a row after which a shard counts as silent.
const MISSES: u32 = 3;

/// What is known about one shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProbeHistory {
    answer: Option<ShardHealth>,
    misses: u32,
    /// A health request has completed since the operator last acted on the shard.
    is_fresh: bool,
    /// Answers to earlier requests are outdated.
    valid_from: Option<Instant>,
    draining: Option<Instant>,
    silent: Option<Instant>,
}

/// The part of an answer whose change matters to a plan or a status.
#[derive(PartialEq)]
struct Essence<'a> {
    /// `Full` counts as `Ready`: the difference is one connection.
    state: State,
    incarnation: &'a str,
    capacity: u32,
    gateways: u32,
    is_impaired: bool,
    kafka: KafkaStatus,
    has_kafka_error: bool,
}

impl ProbeHistory {
    /// The history of a shard that has just given this answer.
    #[cfg(test)]
    pub(crate) fn of(answer: ShardHealth) -> Self {
        let mut history = Self::default();
        history.record(Some(answer), Instant::now());
        history
    }

    /// The history of a shard that was ready and has become silent now.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        let mut history = Self::of(crate::shard_client::health(State::Ready, 7, 10));
        (0..MISSES).for_each(|_| history.record(None, Instant::now()));
        history
    }

    /// The last answer.
    pub(crate) fn answer(&self) -> Option<&ShardHealth> {
        self.answer.as_ref()
    }

    /// Connections in the last answer.
    pub(crate) fn connections(&self) -> u32 {
        self.answer.as_ref().map_or(0, |answer| answer.connections)
    }

    /// Time since its drain was first observed.
    pub(crate) fn draining_for(&self) -> Option<Duration> {
        self.draining.map(|at| at.elapsed())
    }

    /// Time since it became silent. A starting shard is silent, too.
    pub(crate) fn silent_for(&self) -> Option<Duration> {
        self.silent.map(|at| at.elapsed())
    }

    /// Whether a health request has completed since the operator last acted on the shard.
    pub(crate) fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Records the answer to a request sent at `sent`, or that there was none.
    pub(super) fn record(&mut self, answer: Option<ShardHealth>, sent: Instant) {
        if self.valid_from.is_some_and(|valid_from| sent < valid_from) {
            return;
        }
        self.is_fresh = true;
        let Some(answer) = answer else {
            self.misses = self.misses.saturating_add(1);
            if self.misses >= MISSES {
                self.silent.get_or_insert_with(Instant::now);
            }
            return;
        };
        self.misses = 0;
        self.silent = None;
        if answer.state == State::Draining {
            self.draining.get_or_insert_with(Instant::now);
        } else {
            self.draining = None;
        }
        self.answer = Some(answer);
    }

    /// Discards answers to requests sent before `now`.
    pub(super) fn outdate(&mut self, now: Instant) {
        self.valid_from = Some(now);
        self.is_fresh = false;
    }

    /// Whether the next request should follow soon.
    pub(super) fn is_moving(&self) -> bool {
        let moves = |answer: &ShardHealth| matches!(answer.state, State::Starting | State::Draining);
        self.misses > 0 || self.answer.as_ref().is_none_or(moves)
    }

    /// Whether more than numbers of connections changed.
    pub(super) fn differs(&self, before: &Self) -> bool {
        let of = |history: &Self| (history.silent.is_some(), history.is_fresh);
        self.essence() != before.essence() || of(self) != of(before)
    }

    fn essence(&self) -> Option<Essence<'_>> {
        let answer = self.answer.as_ref()?;
        Some(Essence {
            state: if answer.state == State::Full { State::Ready } else { answer.state },
            incarnation: &answer.incarnation,
            capacity: answer.capacity,
            gateways: answer.gateways,
            is_impaired: answer.reason.is_some(),
            kafka: answer.checks.kafka.status,
            has_kafka_error: answer.checks.kafka.error.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(state: State, connections: u32) -> ShardHealth {
        crate::shard_client::health(state, connections, 10)
    }

    #[tokio::test(start_paused = true)]
    async fn is_silent_after_three_misses() {
        let mut history = ProbeHistory::default();
        history.record(Some(answer(State::Ready, 4)), Instant::now());
        (0..2).for_each(|_| history.record(None, Instant::now()));
        assert_eq!(history.silent_for(), None);
        history.record(None, Instant::now());
        assert_eq!((history.silent_for(), history.connections()), (Some(Duration::ZERO), 4));
        history.record(Some(answer(State::Ready, 4)), Instant::now());
        assert_eq!(history.silent_for(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_counts_from_its_first_observation() {
        let mut history = ProbeHistory::default();
        history.record(Some(answer(State::Draining, 4)), Instant::now());
        tokio::time::advance(Duration::from_secs(7)).await;
        history.record(Some(answer(State::Draining, 2)), Instant::now());
        assert_eq!(history.draining_for(), Some(Duration::from_secs(7)));
        history.record(Some(answer(State::Ready, 2)), Instant::now());
        assert_eq!(history.draining_for(), None);
    }

    #[test]
    fn numbers_alone_make_no_difference() {
        let history = |answer: ShardHealth| ProbeHistory { answer: Some(answer), ..ProbeHistory::default() };
        let ready = history(answer(State::Ready, 1));
        assert!(!history(answer(State::Ready, 2)).differs(&ready));
        assert!(!history(answer(State::Full, 10)).differs(&ready));
        assert!(history(answer(State::Draining, 1)).differs(&ready));
        assert!(history(ShardHealth { incarnation: "new".to_owned(), ..answer(State::Ready, 1) }).differs(&ready));
        let mut away = answer(State::Ready, 1);
        away.checks.kafka.status = KafkaStatus::Disconnected;
        assert!(history(away).differs(&ready));
    }
}
