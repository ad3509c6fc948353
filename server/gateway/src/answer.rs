//! The HTTP answers that the gateway itself gives to clients without a tunnel, 503 with its `Retry-After` included.

use wscluster_runtime::drain::hint_ms;

use super::gateway::Gateway;
use super::outcome::{Outcome, Unavailable};

/// The answer to a client whose handshake ends with `outcome`; empty if the client is gone.
pub(crate) fn answer(outcome: Outcome, gateway: &Gateway) -> Vec<u8> {
    match outcome {
        Outcome::Refused(refusal) => refusal.answer(),
        Outcome::Unavailable(reason) => {
            let message = match reason {
                Unavailable::FdLimit => Some(gateway.fds.shortage()),
                Unavailable::PortLimit => Some(gateway.ports.message()),
                _ => None,
            };
            let retry_after_ms = hint_ms(&gateway.settings.drain.retry_after);
            let (reason, message) = (reason.code(), message.as_deref());
            wscluster_ws::upgrade::Unavailable { reason, message, retry_after_ms, fields: &[] }.answer()
        }
        _ => Vec::new(),
    }
}
