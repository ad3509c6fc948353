//! The contract between a source and the workers of a shard: records with their positions, in order.
//!
//! A source encodes each record once. Every worker gets the same [`Update`]s in the same order and keeps its own
//! window of them, so that what a worker has applied and what its window holds are always the same thing.

use std::sync::Arc;

use wscluster_protocol::{Partition, Record};

/// What a source tells every worker, in order.
#[derive(Clone, Debug)]
pub enum Update {
    /// Records; within a partition in the order of their offsets. Never empty.
    Records(Vec<Arc<Record>>),
    /// Reading of a partition begins at `from`: everything at or after it will come, nothing before it will.
    /// Sent before the first record, and again when the thread was lost (see `lost`).
    Begin {
        /// The partition.
        partition: Partition,
        /// Name of its topic. A topic that begins with another epoch than before was recreated: its earlier life is over.
        topic: Arc<str>,
        /// First offset that will come.
        from: i64,
        /// Records were missed (retention overtook the reader, or the topic was recreated): clients of its channels
        /// must be told of the gap.
        lost: bool,
    },
    /// The window is filled up to what the log held at start: the shard may turn ready.
    Filled,
}
