//! Settings of a gateway, from its manifest and its command line.

use std::net::IpAddr;
use std::time::Duration;

use wscluster_api::WsClusterSpec;
use wscluster_api::spec::Drain;
use wscluster_protocol::hop;
use wscluster_ws::upgrade::HeadLimits;

/// Settings of one gateway process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Size of a request head, and of a shard's response head.
    pub head: HeadLimits,
    /// Time for the client's head.
    pub head_timeout: Duration,
    /// Time for all attempts together, without waits in the queue.
    pub handshake_timeout: Duration,
    /// Time for one attempt.
    pub shard_timeout: Duration,
    /// Clients that may wait for a slot at a time.
    pub max_waiting: usize,
    /// Time for all waits of one client together.
    pub queue_timeout: Duration,
    /// Empty: any origin.
    pub allowed_origins: Vec<String>,
    /// The drain that a signal starts. Its range of retry hints applies to a 503 too.
    pub drain: Drain,
    /// `delivery.pongTimeout`: how long a client may be silent.
    pub pong_timeout: Duration,
    /// Event loops; absent: one per CPU.
    pub workers: Option<u32>,
    /// Time from turning not ready to refusing clients: as long as a load balancer needs to notice.
    pub drain_lag: Duration,
    /// Local addresses of connections to shards; empty: the kernel chooses one.
    pub source_addresses: Vec<IpAddr>,
    /// Log every handshake, not only failed ones.
    pub log_handshakes: bool,
}

impl Settings {
    /// The settings that `spec` and the command line give.
    pub fn new(spec: &WsClusterSpec, drain_lag: Duration, log_handshakes: bool) -> Self {
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
            pong_timeout: spec.delivery.pong_timeout.0,
            workers: spec.template.gateway.workers,
            drain_lag,
            source_addresses: Vec::new(),
            log_handshakes,
        }
    }
}
