//! All that a shard knows of the manifest and its command line; fixed for the life of the process.

use std::time::Duration;

use wscluster_api::WsClusterSpec;
use wscluster_api::spec::{Delivery, Drain, Kafka};
use wscluster_protocol::hop;
use wscluster_ws::upgrade::HeadLimits;

/// Settings of a shard.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name, e.g. `prices-0`.
    pub name: String,
    /// Differs with every start.
    pub incarnation: String,
    /// Revision of the pod template.
    pub revision: String,
    /// Connections it may hold.
    pub capacity: u32,
    /// How messages reach clients.
    pub delivery: Delivery,
    /// Where messages come from, and how much of the past is kept.
    pub source: Kafka,
    /// How it empties on a signal.
    pub drain: Drain,
    /// `Origin` values that may connect; empty: any.
    pub allowed_origins: Vec<String>,
    /// Size limits of a handshake, as a gateway sends it.
    pub head: HeadLimits,
    /// Time limit of a handshake.
    pub head_timeout: Duration,
    /// Event loops; absent: one per CPU.
    pub workers: Option<u32>,
    /// Whether `/echo` is served.
    pub echo: bool,
    /// Log every handshake, not only failed ones.
    pub log_handshakes: bool,
}

/// Largest message `/echo` takes: that of the Autobahn test suite.
pub(super) const ECHO_MAX_MESSAGE: u32 = 16 << 20;

/// How long a connection that is being closed may take to answer and to read what is left.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// How long a join waits for this shard to reach a position that the client saw elsewhere.
pub(super) const AHEAD_TIMEOUT: Duration = Duration::from_secs(5);

impl Settings {
    /// Settings of shard `name` of the cluster with this `spec`.
    pub fn new(name: &str, spec: &WsClusterSpec) -> Self {
        let limits = &spec.gateway.limits;
        Self {
            name: name.to_owned(),
            incarnation: format!("{:016x}", rand::random::<u64>()),
            revision: String::new(),
            capacity: spec.capacity,
            delivery: spec.delivery.clone(),
            source: spec.source.kafka.clone(),
            drain: spec.drain.clone(),
            allowed_origins: spec.gateway.allowed_origins.clone(),
            head: hop::shard_head_limits(limits),
            head_timeout: limits.head_timeout.0,
            workers: spec.template.shard.workers,
            echo: false,
            log_handshakes: false,
        }
    }

    /// Bytes that may wait for one client.
    pub(super) fn max_queue(&self) -> usize {
        usize::try_from(self.delivery.max_queue_bytes.0).unwrap_or(usize::MAX)
    }

    /// Bytes a message of a client may have.
    pub(super) fn max_message(&self) -> u32 {
        u32::try_from(self.delivery.max_message_bytes.0).unwrap_or(u32::MAX)
    }
}
