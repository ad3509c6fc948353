//! Command line tools for a running cluster.
//!
//! - [`tail`]: print the messages of channels.
//! - [`publish`]: write records to Kafka.
//! - [`verify`]: check a deployment end to end.
//! - [`top`]: watch the shards.

pub mod publish;
pub mod tail;
pub mod top;
pub mod verify;
