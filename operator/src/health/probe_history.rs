//! What was seen of one shard, from its answers and its silences.

use std::time::Duration;

use tokio::time::Instant;

use crate::shard::Answer;

/// Answers that may be missing in a row before a shard counts as silent.
const MISSES: u32 = 3;

/// What is known of one shard.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    answer: Option<Answer>,
    misses: u32,
    /// It was asked since it was last told anything.
    asked: bool,
    /// Answers to what was sent before are out of date.
    since: Option<Instant>,
    draining: Option<Instant>,
    silent: Option<Instant>,
}

impl Seen {
    /// Of a shard that just said this.
    #[cfg(test)]
    pub(crate) fn of(answer: Answer) -> Self {
        let mut seen = Self::default();
        seen.take(Some(answer), Instant::now());
        seen
    }

    /// Of a shard that was ready and gives no answer from now on.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        let ready = Answer { state: "ready".to_owned(), connections: 7, capacity: 10, ..Answer::default() };
        let mut seen = Self::of(ready);
        (0..MISSES).for_each(|_| seen.take(None, Instant::now()));
        seen
    }

    /// What it last said.
    pub fn answer(&self) -> Option<&Answer> {
        self.answer.as_ref()
    }

    /// Connections as last said.
    pub fn connections(&self) -> u32 {
        self.answer.as_ref().map_or(0, |answer| answer.connections)
    }

    /// How long ago its drain was first seen.
    pub fn draining_for(&self) -> Option<Duration> {
        self.draining.map(|at| at.elapsed())
    }

    /// How long ago it went silent. One that starts is silent as well.
    pub fn silent_for(&self) -> Option<Duration> {
        self.silent.map(|at| at.elapsed())
    }

    /// Whether it was asked at least once since it was last told anything.
    pub fn is_fresh(&self) -> bool {
        self.asked
    }

    /// Takes in an answer, or that there was none, to what was sent at `sent`.
    pub(super) fn take(&mut self, answer: Option<Answer>, sent: Instant) {
        if self.since.is_some_and(|since| sent < since) {
            return;
        }
        self.asked = true;
        let Some(answer) = answer else {
            self.misses = self.misses.saturating_add(1);
            if self.misses >= MISSES {
                self.silent.get_or_insert_with(Instant::now);
            }
            return;
        };
        self.misses = 0;
        self.silent = None;
        if answer.state == "draining" {
            self.draining.get_or_insert_with(Instant::now);
        } else {
            self.draining = None;
        }
        self.answer = Some(answer);
    }

    /// Nothing that was sent before `now` counts any more.
    pub(super) fn outdate(&mut self, now: Instant) {
        self.since = Some(now);
        self.asked = false;
    }

    /// Whether it is to be asked again soon.
    pub(super) fn is_moving(&self) -> bool {
        self.misses > 0 || self.answer.as_ref().is_none_or(|answer| matches!(&*answer.state, "starting" | "draining"))
    }

    /// Whether more than counts moved. `full` is `ready` with another count.
    pub(super) fn differs(&self, before: &Self) -> bool {
        let essence = |seen: &Self| {
            let said = seen.answer.as_ref().map(|answer| {
                let state = if answer.state == "full" { "ready" } else { &answer.state };
                let kafka = &answer.checks.kafka;
                let trouble = (answer.reason.is_some(), kafka.status.clone(), kafka.error.is_some());
                (state.to_owned(), answer.incarnation.clone(), answer.capacity, answer.gateways, trouble)
            });
            (said, seen.silent.is_some(), seen.asked)
        };
        essence(self) != essence(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(state: &str, connections: u32) -> Answer {
        Answer { state: state.to_owned(), connections, capacity: 10, ..Answer::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn is_silent_after_three_misses() {
        let mut seen = Seen::default();
        seen.take(Some(answer("ready", 4)), Instant::now());
        (0..2).for_each(|_| seen.take(None, Instant::now()));
        assert_eq!(seen.silent_for(), None);
        seen.take(None, Instant::now());
        assert_eq!((seen.silent_for(), seen.connections()), (Some(Duration::ZERO), 4));
        seen.take(Some(answer("ready", 4)), Instant::now());
        assert_eq!(seen.silent_for(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_counts_from_when_it_was_first_seen() {
        let mut seen = Seen::default();
        seen.take(Some(answer("draining", 4)), Instant::now());
        tokio::time::advance(Duration::from_secs(7)).await;
        seen.take(Some(answer("draining", 2)), Instant::now());
        assert_eq!(seen.draining_for(), Some(Duration::from_secs(7)));
        seen.take(Some(answer("ready", 2)), Instant::now());
        assert_eq!(seen.draining_for(), None);
    }

    #[test]
    fn counts_alone_make_no_difference() {
        let seen = |answer: Answer| Seen { answer: Some(answer), ..Seen::default() };
        let ready = seen(answer("ready", 1));
        assert!(!seen(answer("ready", 2)).differs(&ready));
        assert!(!seen(answer("full", 10)).differs(&ready));
        assert!(seen(answer("draining", 1)).differs(&ready));
        assert!(seen(Answer { incarnation: "new".to_owned(), ..answer("ready", 1) }).differs(&ready));
        let away = crate::shard::Kafka { status: "disconnected".to_owned(), error: None };
        let away = Answer { checks: crate::shard::Checks { kafka: away }, ..answer("ready", 1) };
        assert!(seen(away).differs(&ready));
    }
}
