//! Offsets of logs: beginning, end, or at a time. One request to each broker, for any number of partitions.

use std::time::Duration;

use rdkafka::consumer::{Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

/// An offset is unknown.
#[derive(Debug, thiserror::Error)]
pub(super) enum OffsetsError {
    #[error("failed to ask for offsets: {0}")]
    Request(#[from] KafkaError),
    #[error("failed to ask for offsets of {topic} [{partition}]: {code}")]
    Partition { topic: String, partition: i32, code: RDKafkaErrorCode },
    #[error("failed to read topic {topic}: {reason}")]
    Topic { topic: String, reason: String },
    #[error("failed to read topic {topic}: its positions could be mistaken for another topic's; recreate it")]
    Epoch { topic: String },
}

/// Which offset is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    Beginning,
    End,
    /// That of the first record at or after this time, Unix milliseconds; −1 where there is none.
    Time(i64),
}

/// The offsets in the order of `partitions`.
pub(super) fn ask<X: ConsumerContext, C: Consumer<X>>(
    consumer: &C,
    partitions: &[(&str, i32)],
    what: Ask,
    timeout: Duration,
) -> Result<Vec<i64>, OffsetsError> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let time = match what {
        Ask::Beginning => Offset::Beginning,
        Ask::End => Offset::End,
        Ask::Time(ms) => Offset::Offset(ms.max(0)),
    };
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition_offset(topic, *partition, time)?;
    }
    let answer = consumer.offsets_for_times(list, timeout)?;
    partitions
        .iter()
        .map(|&(topic, partition)| {
            let failed = |code| OffsetsError::Partition { topic: topic.to_owned(), partition, code };
            let found = answer.find_partition(topic, partition).ok_or(failed(RDKafkaErrorCode::UnknownPartition))?;
            match (found.error(), found.offset()) {
                (Err(KafkaError::OffsetFetch(code)), _) => Err(failed(code)),
                (Err(error), _) => Err(error.into()),
                (Ok(()), Offset::Offset(offset)) => Ok(offset),
                (Ok(()), Offset::End) => Ok(-1),
                (Ok(()), _) => Err(failed(RDKafkaErrorCode::Unknown)),
            }
        })
        .collect()
}
