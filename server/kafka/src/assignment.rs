//! What the watch tells the reader: which partitions to read, from where.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use wscluster_protocol::{Epoch, Partition};

use super::encode::Mold;

/// Partitions to begin with; the first order of a source is its history.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) starts: Vec<Start>,
}

/// One partition to read.
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub(super) topic: Arc<str>,
    /// Kafka's id of the topic, when it has one.
    pub(super) id: Option<String>,
    pub(super) mold: Arc<Mold>,
    pub(super) partition: Partition,
    pub(super) from: i64,
    /// End of the log when it was located.
    pub(super) until: i64,
    /// Records before `from` were missed.
    pub(super) lost: bool,
    /// The next offset to read; written by the reader.
    pub(super) next: Arc<AtomicI64>,
}

/// The epoch of a topic's life: a hash of its name and id (FNV-1a, folded to 32 bits), the same on every shard.
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
    fn tells_topics_and_their_lives_apart() {
        assert_eq!(epoch("a", Some("x")), epoch("a", Some("x")));
        assert_ne!(epoch("a", Some("x")), epoch("a", Some("y")));
        assert_ne!(epoch("a", Some("x")), epoch("b", Some("x")));
        assert_ne!(epoch("a", None), epoch("b", None));
    }
}
