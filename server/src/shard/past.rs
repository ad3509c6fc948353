//! Recovery beyond the window: a join that waits for what Kafka still holds, and what it becomes when that is here.
//!
//! The join itself stays one step of the worker: what was read back ends where the window goes on, so there is no hole and
//! no repeat; when the window has moved on meanwhile, the answer is an honest no.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::task::AbortHandle;

use super::window::{Recovery, Window};
use super::worker::Worker;
use crate::feed::{Position, Record};
use crate::kafka::past::{Found, Missing, Reason};

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

    /// Why there is no answer at the deadline.
    pub(super) fn reason_at_deadline(&self) -> Reason {
        match self {
            Self::Nothing => "unknown_position",
            Self::Waiting(_) => "timeout",
        }
    }
}

/// What was read back, and behind it what the window has.
fn join(window: &Window, channel: &str, positions: &[Position], found: &Found) -> Missed {
    let read: Vec<Position> = positions
        .iter()
        .map(|position| {
            let until = found.until.get(&position.partition).map_or(position.offset, |until| until - 1);
            Position { offset: until.max(position.offset), ..*position }
        })
        .collect();
    match window.recover(channel, &read) {
        Recovery::Complete(rest) => {
            let mut records = found.records.get(channel).cloned().unwrap_or_default();
            records.extend(rest);
            Missed::Records(records)
        }
        Recovery::Ahead(_) => Missed::Later,
        Recovery::Lost(reason) => Missed::Lost(reason),
    }
}

impl Worker {
    /// Asks the past for what the window no longer has; the held requests are looked at again when the answer is here.
    pub(super) fn ask_past(&self, since: HashMap<String, Vec<Position>>) -> Asked {
        let Some(past) = self.shared.past.get() else { return Asked::Nothing };
        let partitions = since.values().flatten().map(|position| position.partition);
        let until = partitions.filter_map(|partition| Some((partition, self.window.rejoin(partition)?))).collect();
        let receiver = past.ask(Missing { since, until });
        let answer = Rc::new(RefCell::new(None));
        let (slot, worker) = (Rc::clone(&answer), Weak::clone(&self.me));
        let task = tokio::task::spawn_local(async move {
            *slot.borrow_mut() = Some(receiver.await.unwrap_or(Err("unavailable")));
            if let Some(worker) = worker.upgrade() {
                worker.borrow_mut().retry_held();
            }
        });
        Asked::Waiting(Waiting { answer, task: task.abort_handle() })
    }
}
