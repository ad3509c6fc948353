//! Recovery beyond the window: a `subscribe` waits while older records are read back from Kafka.
//!
//! Records from Kafka end where the window begins, and the client joins in one step of the worker, so there is no
//! hole and no repeat. A [`Hold`] keeps the window from evicting records in the meantime. If more records arrive than
//! the window may hold, the channel is reported as not recovered.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::task::AbortHandle;
use wscluster_kafka::backfill::{BackfillRecords, BackfillRequest};
use wscluster_protocol::{LostReason, Position, Record};

use super::window::{Hold, Recovery, Window};
use super::worker::Worker;

/// Whether a pending `subscribe` has asked Kafka for records.
#[derive(Debug, Default)]
pub(super) enum BackfillState {
    /// It has not.
    #[default]
    NotRequested,
    /// It has; dropping this cancels the request.
    Requested(RunningBackfill),
}

/// A request for older records.
#[derive(Debug)]
pub(super) struct RunningBackfill {
    answer: Rc<RefCell<Option<Result<BackfillRecords, LostReason>>>>,
    task: AbortHandle,
    /// Keeps the records in the window that follow the answer.
    _hold: Arc<Hold>,
}

impl Drop for RunningBackfill {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a client missed of a channel.
#[derive(Debug)]
pub(super) enum Missed {
    /// The client asked for no recovery.
    NotRequested,
    /// Every missed record, in order.
    Records(Vec<Arc<Record>>),
    /// Records may be missing.
    Lost(LostReason),
    /// The answer depends on records or on a backfill that has not arrived yet.
    Later,
    /// The client must first read the replays that it asked for before.
    Busy,
    /// The window no longer has all of them; Kafka may.
    NotInWindow,
}

impl BackfillState {
    /// What a client missed of `channel` after `positions`.
    pub(super) fn missed(&self, window: &Window, channel: &str, positions: &[Position]) -> Missed {
        match window.recover(channel, positions) {
            Recovery::Complete(records) => Missed::Records(records),
            Recovery::Ahead(_) => Missed::Later,
            Recovery::Lost(LostReason::TooOld) => match self {
                Self::NotRequested => Missed::NotInWindow,
                Self::Requested(RunningBackfill { answer, .. }) => match &*answer.borrow() {
                    None => Missed::Later,
                    Some(Err(reason)) => Missed::Lost(*reason),
                    Some(Ok(found)) => join(window, channel, positions, found),
                },
            },
            Recovery::Lost(reason) => Missed::Lost(reason),
        }
    }

    /// Whether no answer is outstanding.
    pub(super) fn is_answered(&self) -> bool {
        match self {
            Self::NotRequested => true,
            Self::Requested(RunningBackfill { answer, .. }) => answer.borrow().is_some(),
        }
    }

    /// The reason to report when the deadline passes without an answer.
    pub(super) fn reason_at_deadline(&self) -> LostReason {
        match self {
            Self::NotRequested => LostReason::UnknownPosition,
            Self::Requested(_) => LostReason::Timeout,
        }
    }
}

/// More records arrived during the backfill than the window may hold.
const OUTRUN: LostReason = LostReason::TooMuch;

/// The records that were read back, followed by those in the window.
fn join(window: &Window, channel: &str, positions: &[Position], found: &BackfillRecords) -> Missed {
    let read: Vec<Position> = positions
        .iter()
        .map(|position| {
            let until = found.until.get(&position.partition).map_or(position.offset, |until| until - 1);
            Position { offset: until.max(position.offset), ..*position }
        })
        .collect();
    // The backfill was for other channels: this one was still in the window then, and has been evicted since.
    let Some(backfilled) = found.records.get(channel) else { return Missed::Lost(OUTRUN) };
    // That far back, the window does not show which records of other partitions the client has received.
    if window.may_owe_elsewhere(channel, positions) {
        return Missed::Lost(LostReason::UnknownPosition);
    }
    match window.recover(channel, &read) {
        Recovery::Complete(rest) => {
            let mut records = backfilled.clone();
            records.extend(rest);
            Missed::Records(records)
        }
        Recovery::Ahead(_) => Missed::Later,
        Recovery::Lost(LostReason::TooOld) => Missed::Lost(OUTRUN),
        Recovery::Lost(reason) => Missed::Lost(reason),
    }
}

impl Worker {
    /// Requests the records that the window no longer has. The answer triggers [`Self::retry_pending`].
    pub(super) fn request_backfill(&mut self, since: HashMap<String, Vec<Position>>) -> BackfillState {
        let Some(backfill) = self.shared.backfill.get() else { return BackfillState::NotRequested };
        let partitions = since.values().flatten().map(|position| position.partition);
        let until = partitions.filter_map(|partition| Some((partition, self.window.rejoin(partition)?))).collect();
        let receiver = backfill.request(BackfillRequest { since, until });
        let hold = self.window.hold();
        let answer = Rc::new(RefCell::new(None));
        let (slot, worker) = (Rc::clone(&answer), Weak::clone(&self.me));
        let task = tokio::task::spawn_local(async move {
            *slot.borrow_mut() = Some(receiver.await.unwrap_or(Err(LostReason::Unavailable)));
            if let Some(worker) = worker.upgrade() {
                worker.borrow_mut().retry_pending();
            }
        });
        BackfillState::Requested(RunningBackfill { answer, task: task.abort_handle(), _hold: hold })
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

    /// A window of one second from which all of `records` but the last have been evicted.
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

    /// The answer of a backfill of `channel`, up to where the window begins in partition 0.
    fn found(window: &Window, channel: &str, records: &[Position]) -> BackfillRecords {
        let partition = at(0, 0).partition;
        BackfillRecords {
            records: HashMap::from([(channel.to_owned(), records.iter().map(|at| record(channel, *at)).collect())]),
            until: HashMap::from([(partition, window.rejoin(partition).unwrap())]),
        }
    }

    fn offsets(missed: Missed) -> Result<Vec<i64>, LostReason> {
        match missed {
            Missed::Records(records) => Ok(records.iter().map(|record| record.position.offset).collect()),
            Missed::Lost(reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn continues_in_the_window_where_the_backfill_ends() {
        let window = window(&[("a", at(0, 0)), ("a", at(0, 1)), ("b", at(0, 2)), ("a", at(0, 3))]);
        let found = found(&window, "a", &[at(0, 1)]);
        assert_eq!(offsets(join(&window, "a", &[at(0, 0)], &found)), Ok(vec![1, 3]));
    }

    #[test]
    fn a_backfill_for_one_channel_does_not_count_for_another() {
        // `b` was in the window when the backfill of `a` was requested; its record 2 has left the window since.
        let window = window(&[("a", at(0, 0)), ("b", at(0, 1)), ("b", at(0, 2)), ("a", at(0, 3))]);
        let found = found(&window, "a", &[]);
        assert_eq!(offsets(join(&window, "b", &[at(0, 1)], &found)), Err(LostReason::TooMuch));
    }

    #[test]
    fn reports_a_loss_where_the_client_names_no_position_of_a_partition() {
        // Record 0 of partition 1 was published after the client's last record and has left the window.
        let window = window(&[("a", at(0, 0)), ("a", at(1, 0)), ("a", at(0, 1)), ("a", at(0, 2))]);
        let found = found(&window, "a", &[at(0, 1)]);
        assert_eq!(offsets(join(&window, "a", &[at(0, 0)], &found)), Err(LostReason::UnknownPosition));
    }
}
