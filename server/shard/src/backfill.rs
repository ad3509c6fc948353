//! Recovery beyond the window: a join that waits for what Kafka still holds, and what it becomes when that is here.
//!
//! The join itself stays one step of the worker: what was read back ends where the window goes on, so there is no hole and
//! no repeat. The window is held meanwhile; when more came than it may hold, the answer is an honest no.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::task::AbortHandle;
use wscluster_kafka::backfill::{Found, Missing, Reason};
use wscluster_protocol::{Position, Record};

use super::window::{Hold, Recovery, Window};
use super::worker::Worker;

/// What a held request asked of the past.
#[derive(Debug, Default)]
pub(super) enum Asked {
    /// Nothing yet.
    #[default]
    Nothing,
    /// The answer is on its way; given up when this goes.
    Waiting(Waiting),
}

/// A question to the past.
#[derive(Debug)]
pub(super) struct Waiting {
    answer: Rc<RefCell<Option<Result<Found, Reason>>>>,
    task: AbortHandle,
    /// Keeps in the window what the answer is to go on with.
    _hold: Arc<Hold>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a client missed of a channel.
#[derive(Debug)]
pub(super) enum Missed {
    /// It did not ask.
    Unasked,
    /// All of it, in order.
    Records(Vec<Arc<Record>>),
    /// Something may be missing.
    Lost(Reason),
    /// Not known yet.
    Later,
    /// Not before the client has read more of what it asked for.
    Busy,
    /// Not in the window, perhaps in Kafka.
    Past,
}

impl Asked {
    /// What a client missed of `channel` since `positions`.
    pub(super) fn missed(&self, window: &Window, channel: &str, positions: &[Position]) -> Missed {
        match window.recover(channel, positions) {
            Recovery::Complete(records) => Missed::Records(records),
            Recovery::Ahead(_) => Missed::Later,
            Recovery::Lost("too_old") => match self {
                Self::Nothing => Missed::Past,
                Self::Waiting(Waiting { answer, .. }) => match &*answer.borrow() {
                    None => Missed::Later,
                    Some(Err(reason)) => Missed::Lost(reason),
                    Some(Ok(found)) => join(window, channel, positions, found),
                },
            },
            Recovery::Lost(reason) => Missed::Lost(reason),
        }
    }

    /// Whether there is nothing to wait for any more.
    pub(super) fn is_answered(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Waiting(Waiting { answer, .. }) => answer.borrow().is_some(),
        }
    }

    /// Why there is no answer at the deadline.
    pub(super) fn reason_at_deadline(&self) -> Reason {
        match self {
            Self::Nothing => "unknown_position",
            Self::Waiting(_) => "timeout",
        }
    }
}

/// While the past was read, more came than the window may hold.
const OUTRUN: Reason = "too_much";

/// What was read back, and behind it what the window has.
fn join(window: &Window, channel: &str, positions: &[Position], found: &Found) -> Missed {
    let read: Vec<Position> = positions
        .iter()
        .map(|position| {
            let until = found.until.get(&position.partition).map_or(position.offset, |until| until - 1);
            Position { offset: until.max(position.offset), ..*position }
        })
        .collect();
    // Was in the window when the others were asked for, and is not any more: more came than it may hold.
    let Some(past) = found.records.get(channel) else { return Missed::Lost(OUTRUN) };
    // From where the client stood nothing tells any more which records of other partitions it has seen.
    if window.may_owe_elsewhere(channel, positions) {
        return Missed::Lost("unknown_position");
    }
    match window.recover(channel, &read) {
        Recovery::Complete(rest) => {
            let mut records = past.clone();
            records.extend(rest);
            Missed::Records(records)
        }
        Recovery::Ahead(_) => Missed::Later,
        Recovery::Lost("too_old") => Missed::Lost(OUTRUN),
        Recovery::Lost(reason) => Missed::Lost(reason),
    }
}

impl Worker {
    /// Asks the past for what the window no longer has; the held requests are looked at again when the answer is here.
    pub(super) fn ask_past(&mut self, since: HashMap<String, Vec<Position>>) -> Asked {
        let Some(past) = self.shared.past.get() else { return Asked::Nothing };
        let partitions = since.values().flatten().map(|position| position.partition);
        let until = partitions.filter_map(|partition| Some((partition, self.window.rejoin(partition)?))).collect();
        let receiver = past.ask(Missing { since, until });
        let hold = self.window.hold();
        let answer = Rc::new(RefCell::new(None));
        let (slot, worker) = (Rc::clone(&answer), Weak::clone(&self.me));
        let task = tokio::task::spawn_local(async move {
            *slot.borrow_mut() = Some(receiver.await.unwrap_or(Err("unavailable")));
            if let Some(worker) = worker.upgrade() {
                worker.borrow_mut().retry_held();
            }
        });
        Asked::Waiting(Waiting { answer, task: task.abort_handle(), _hold: hold })
    }
}

#[cfg(test)]
mod tests {
    use wscluster_api::spec::History;
    use wscluster_api::units::{Size, Span};
    use wscluster_kafka::feed::Update;
    use wscluster_protocol::{Draft, Epoch, Partition};

    use super::*;

    fn at(number: i32, offset: i64) -> Position {
        Position { partition: Partition { epoch: Epoch(7), number }, offset }
    }

    fn record(channel: &str, position: Position) -> Arc<Record> {
        let draft = Draft { kind: "t", priority: 0, data: b"\"data\":1" };
        Arc::new(Record::encode(channel.into(), position, None, 0, draft))
    }

    /// A window of one second in which of `records` only the last one is left.
    fn window(records: &[(&str, Position)]) -> Window {
        let mut window = Window::new(&History { window: Span::secs(1), max_bytes: Size(1 << 20) });
        for number in 0..2 {
            let update = Update::Begin { partition: at(number, 0).partition, topic: "t".into(), from: 0, lost: false };
            window.apply(&update, 0);
        }
        window.apply(&Update::Filled, 0);
        for (number, (channel, position)) in records.iter().enumerate() {
            let now_ms = if number + 1 == records.len() { 60_000 } else { 0 };
            window.apply(&Update::Records(vec![record(channel, *position)]), now_ms);
        }
        window
    }

    /// What was read back of `channel`, up to where the window goes on in partition 0.
    fn found(window: &Window, channel: &str, records: &[Position]) -> Found {
        let partition = at(0, 0).partition;
        Found {
            records: HashMap::from([(channel.to_owned(), records.iter().map(|at| record(channel, *at)).collect())]),
            until: HashMap::from([(partition, window.rejoin(partition).unwrap())]),
        }
    }

    fn offsets(missed: Missed) -> Result<Vec<i64>, Reason> {
        match missed {
            Missed::Records(records) => Ok(records.iter().map(|record| record.position.offset).collect()),
            Missed::Lost(reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn goes_on_in_the_window_where_the_past_ends() {
        let window = window(&[("a", at(0, 0)), ("a", at(0, 1)), ("b", at(0, 2)), ("a", at(0, 3))]);
        let found = found(&window, "a", &[at(0, 1)]);
        assert_eq!(offsets(join(&window, "a", &[at(0, 0)], &found)), Ok(vec![1, 3]));
    }

    #[test]
    fn does_not_take_what_was_read_for_one_channel_as_all_of_another() {
        // `b` was here when `a` was asked for; its record 2 left the window meanwhile.
        let window = window(&[("a", at(0, 0)), ("b", at(0, 1)), ("b", at(0, 2)), ("a", at(0, 3))]);
        let found = found(&window, "a", &[]);
        assert_eq!(offsets(join(&window, "b", &[at(0, 1)], &found)), Err("too_much"));
    }

    #[test]
    fn is_honest_about_partitions_the_client_says_nothing_of() {
        // Record 0 of partition 1 came after what the client saw, and before what the window still has.
        let window = window(&[("a", at(0, 0)), ("a", at(1, 0)), ("a", at(0, 1)), ("a", at(0, 2))]);
        let found = found(&window, "a", &[at(0, 1)]);
        assert_eq!(offsets(join(&window, "a", &[at(0, 0)], &found)), Err("unknown_position"));
    }
}
