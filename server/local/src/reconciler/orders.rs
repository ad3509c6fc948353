//! Orders to the admin ports of children, and their answers.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use tokio::task::JoinSet;
use wscluster_admin::client::CallError;

use super::Reconciler;
use crate::event::{Event, StepAction};
use crate::fleet::Fleet;
use crate::state::with;

/// An order to a child, and its answer.
#[derive(Debug)]
pub(crate) struct CallResult {
    pub(super) child: Arc<str>,
    pub(super) call: ChildCall,
    pub(super) result: Result<(), CallError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChildCall {
    Drain,
    Undrain,
    Evict,
}

impl Reconciler {
    /// Sends the new `spec.drain` to the running gateways: a gateway that is being replaced was started with the
    /// previous one.
    pub(super) fn update_drains(&mut self, fleet: &Fleet) {
        for child in fleet.gateways() {
            let (address, drain, admin) = (child.at.admin, self.cluster.spec.drain.clone(), self.admin.clone());
            tokio::spawn(async move {
                // A gateway that does not answer is starting, or is about to be ended because it hangs.
                if let Err(error) = admin.configure_drain(address, &drain).await {
                    tracing::warn!(%error, "gateway did not take the edited drain");
                }
            });
        }
    }

    /// Waits for the answer to an order; `None` when no order is pending.
    pub(crate) async fn answered(&mut self) -> Option<CallResult> {
        loop {
            match self.calls.join_next().await? {
                Ok(answer) => return Some(answer),
                Err(error) => tracing::error!(%error, "the task of an order to a child failed"),
            }
        }
    }

    /// Records the answer to an order.
    pub(crate) fn record(answer: CallResult, fleet: &mut Fleet) {
        let CallResult { child, call, result } = answer;
        let Some(child) = fleet.child(&child) else { return };
        let now = Instant::now();
        // Also without an answer: the child may have received the order.
        child.ordered = Some(now);
        match (call, result) {
            (ChildCall::Drain, Ok(())) => child.drain = child.drain.or(Some(now)),
            (ChildCall::Undrain, Ok(())) => child.drain = None,
            (ChildCall::Evict, Ok(())) => {}
            (ChildCall::Undrain, Err(error)) if error.status() == Some(StatusCode::CONFLICT) => child.is_ending = true,
            (_, Err(error)) => {
                tracing::warn!(%error, child = &*child.name, "child did not accept an order; it is sent again");
            }
        }
    }

    /// Cancels drains that this run did not order, of shards and of gateways: only the plan knows who can be spared.
    pub(super) fn take_back_drains(&mut self, fleet: &Fleet, events: &mut Vec<Event>) {
        for child in fleet.shards().chain(fleet.gateways()) {
            if with(&self.state, |state| state.is_draining(&child.name, child.ordered)) && child.is_drained_by_others()
            {
                self.undrain(child.name.clone(), child.at.admin);
                let reason = "accepts upgrades again: this run did not order its drain".to_owned();
                events.push(Event::Step { name: child.name.clone(), action: StepAction::Undrain, reason });
            }
        }
    }

    pub(super) fn undrain(&mut self, child: Arc<str>, address: SocketAddr) {
        let admin = self.admin.clone();
        order(&mut self.calls, child, ChildCall::Undrain, async move { admin.cancel_drain(address).await });
    }
}

/// Adds an order to `child` to the calls, of which [`Reconciler::answered`] returns the results.
pub(super) fn order(
    calls: &mut JoinSet<CallResult>,
    child: Arc<str>,
    call: ChildCall,
    result: impl Future<Output = Result<(), CallError>> + Send + 'static,
) {
    calls.spawn(async move { CallResult { child, call, result: result.await } });
}
