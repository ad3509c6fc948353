//! The protocol between clients and shards as types, without I/O. `docs/protocol.md` describes it for authors of
//! clients.
//!
//! A client opens a WebSocket, subscribes to channels and receives records. Each record carries its [`Position`]; a
//! client that reconnects sends its last positions and receives what it missed, or a reason why messages may be
//! missing ([`LostReason`]).
//!
//! - [`request`]: requests of clients.
//! - [`reply`]: messages of shards besides records.
//! - [`Record`]: a Kafka record, encoded into the frame that all subscribers share.
//! - [`Position`], [`Positions`]: the tokens that clients keep to resume.
//! - [`close`]: the table of close codes, with the advice when to reconnect.
//! - [`hop`]: what a gateway adds to a request for a shard.

pub mod close;
pub mod hop;
mod position;
mod record;
mod recovery;
pub mod reply;
pub mod request;

pub use position::{Epoch, Partition, Position, PositionError, Positions};
pub use record::{Draft, Record};
pub use recovery::LostReason;
