//! Kafka: the source of a shard, and the embedded broker of `wscluster local`.
