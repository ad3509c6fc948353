//! Settings of a shard, from the manifest and the command line; fixed for the life of the process.

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
    /// Random value that differs with every start.
    pub incarnation: String,
    /// Revision of the pod template.
    pub revision: String,
    /// Most connections.
    pub capacity: u32,
    /// How messages reach clients.
    pub delivery: Delivery,
    /// Topics, brokers, and how much history the window keeps.
    pub source: Kafka,
    /// The drain on a signal.
    pub drain: Drain,
    /// `Origin` values that may connect; an empty list allows every origin.
    pub allowed_origins: Vec<String>,
    /// Size limits of the head of a handshake, with room for what a gateway adds.
    pub head: HeadLimits,
    /// Time limit of a handshake.
    pub head_timeout: Duration,
    /// Number of event loops; `None`: one for each CPU.
    pub workers: Option<u32>,
    /// Whether `/echo` is served.
    pub echo: bool,
    /// Whether successful handshakes are logged too.
    pub log_handshakes: bool,
    /// How long a `subscribe` waits for this shard to reach the client's positions.
    pub ahead_timeout: Duration,
}

/// Largest message on `/echo`: that of the Autobahn test suite.
pub(super) const ECHO_MAX_MESSAGE: u32 = 16 << 20;

/// Time limit for a closing connection to answer and to read the remaining frames.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// How long a `subscribe` waits for its client to read an earlier replay, or for a backfill.
pub(super) const HOLD_TIMEOUT: Duration = Duration::from_secs(5);

/// After a broker's restart, shards find the leaders of partitions up to ten seconds apart.
const AHEAD_TIMEOUT: Duration = Duration::from_secs(20);

impl Settings {
    /// Settings of the shard `name` of a cluster with this `spec`.
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
            ahead_timeout: AHEAD_TIMEOUT,
        }
    }

    /// Limit of the queue of a client, bytes.
    pub(super) fn max_queue(&self) -> usize {
        usize::try_from(self.delivery.max_queue_bytes.0).unwrap_or(usize::MAX)
    }

    /// Limit of a message of a client, bytes.
    pub(super) fn max_message(&self) -> u32 {
        u32::try_from(self.delivery.max_message_bytes.0).unwrap_or(u32::MAX)
    }
}
