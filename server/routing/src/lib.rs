//! Which shard gets the next client: what is known of each shard ([`table`], [`backend`]) and the choice among them ([`pick`]).
//!
//! No sockets and no clock of its own, so that the simulation runs the same code as the gateway.

pub mod backend;
pub mod flow;
pub mod pick;
pub mod table;
