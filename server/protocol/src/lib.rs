//! What clients and shards send each other, as types. No I/O.
//!
//! - [`request`]: what a client asks for.
//! - [`reply`]: what a shard answers besides records.
//! - [`Record`]: a Kafka record as the frame that subscribers get.
//! - [`hop`]: what a gateway adds on the way to a shard.
//! - [`Position`]: where a record stands in the log, the token that clients keep to resume.
//!
//! `docs/protocol.md` is the same for people who write clients.

pub mod close;
pub mod hop;
mod position;
mod record;
pub mod reply;
pub mod request;

pub use position::{Epoch, Partition, Position, PositionError};
pub use record::{Draft, Record};
