//! The feed from a source to the workers of a shard: records in order.
//!
//! A source encodes each record once. Every worker gets the same [`Update`]s in the same order and keeps its own
//! window, so a window holds exactly the records that its worker has applied.

use std::sync::Arc;

use wscluster_protocol::{Partition, Record};

/// A step of the feed.
#[derive(Clone, Debug)]
pub enum Update {
    /// Records, in the order of offsets within each partition. Never empty.
    Records(Vec<Arc<Record>>),
    /// Reading of a partition begins at `from`: every record at or after it follows, and none before it. Sent before
    /// the first record, and again after a loss (see `lost`).
    Begin {
        /// The partition.
        partition: Partition,
        /// Name of its topic. If the epoch differs from before, the topic was recreated.
        topic: Arc<str>,
        /// First offset that follows.
        from: i64,
        /// Whether records were missed: retention overtook the reader, the topic was recreated, or the partition could
        /// not be read at first. Clients of its channels must get a `gap`.
        lost: bool,
    },
    /// The window holds the records that were in the log at start: the shard may turn ready.
    Filled,
}
