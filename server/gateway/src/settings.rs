//! Settings of a gateway, from its manifest and its command line.

use std::time::Duration;

use wscluster_api::WsClusterSpec;
use wscluster_api::spec::Drain;
use wscluster_protocol::hop;
use wscluster_ws::upgrade::HeadLimits;

/// Settings of one gateway process.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Size of a request head, and of a shard's response head.
    pub(crate) head: HeadLimits,
    /// Time for the client's head.
    pub(crate) head_timeout: Duration,
    /// Time for all attempts together, without waits in the queue.
    pub(crate) handshake_timeout: Duration,
    /// Time for one attempt.
    pub(crate) shard_timeout: Duration,
    /// Clients that may wait for a slot at a time.
    pub(crate) max_waiting: usize,
    /// Time for all waits of one client together.
    pub(crate) queue_timeout: Duration,
    /// Empty: any origin.
    pub(crate) allowed_origins: Vec<String>,
    /// The drain that a signal starts. Its range of retry hints applies to a 503 too.
    pub(crate) drain: Drain,
    /// Event loops; absent: one per CPU.
    pub(crate) workers: Option<u32>,
    /// Time from turning not ready to refusing clients: as long as a load balancer needs to notice.
    pub(crate) drain_lag: Duration,
    /// Log every handshake, not only failed ones.
    pub(crate) log_handshakes: bool,
}

impl Settings {
    /// The settings that `spec` and the command line give.
    pub(crate) fn new(spec: &WsClusterSpec, drain_lag: Duration, log_handshakes: bool) -> Self {
        let (limits, queue) = (&spec.gateway.limits, &spec.gateway.queue);
        Self {
            head: hop::gateway_head_limits(limits),
            head_timeout: limits.head_timeout.0,
            handshake_timeout: limits.handshake_timeout.0,
            shard_timeout: limits.shard_timeout.0,
            max_waiting: queue.max_waiting as usize,
            queue_timeout: queue.timeout.0,
            allowed_origins: spec.gateway.allowed_origins.clone(),
            drain: spec.drain.clone(),
            workers: spec.template.gateway.workers,
            drain_lag,
            log_handshakes,
        }
    }
}
