//! Assignments from the watch to the reader: which partitions to read, and from which offset.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use wscluster_protocol::{Epoch, Partition};

use super::encode::TopicMapping;

/// Partitions to begin. The first assignment of a source is its history.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) starts: Vec<PartitionStart>,
}

/// A partition to read.
#[derive(Clone, Debug)]
pub(super) struct PartitionStart {
    pub(super) topic: Arc<str>,
    /// Kafka's id of the topic; `None` from brokers without ids.
    pub(super) id: Option<String>,
    pub(super) mapping: Arc<TopicMapping>,
    pub(super) partition: Partition,
    pub(super) from: i64,
    /// End of the log when the partition was located.
    pub(super) until: i64,
    /// Whether records before `from` were missed.
    pub(super) lost: bool,
    /// The next offset to read; written by the reader.
    pub(super) next: Arc<AtomicI64>,
}

/// The epoch of a topic: a hash of its name and id (FNV-1a, folded to 32 bits), equal on every shard.
pub(super) fn epoch(topic: &str, id: Option<&str>) -> Epoch {
    let bytes = topic.bytes().chain([0]).chain(id.unwrap_or_default().bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    Epoch((hash ^ (hash >> 32)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_differ_by_topic_and_by_id() {
        assert_eq!(epoch("a", Some("x")), epoch("a", Some("x")));
        assert_ne!(epoch("a", Some("x")), epoch("a", Some("y")));
        assert_ne!(epoch("a", Some("x")), epoch("b", Some("x")));
        assert_ne!(epoch("a", None), epoch("b", None));
    }
}
