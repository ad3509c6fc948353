//! Which shard gets the next client: what a gateway knows of each shard, and the choice among them. No sockets, no
//! I/O.
//!
//! - [`member::Member`]: name and addresses of a shard; a list of them as text.
//! - [`backend::Backend`]: one shard as this gateway knows it: load, [`backend::Availability`], handshakes in flight.
//! - [`table::Table`]: all of them; [`table::Table::pick`] gives a [`backend::Lease`].
//! - [`pick`]: the choice itself, a pure function that the simulation runs too.
//! - [`flow`]: counters of relayed bytes.

pub mod backend;
pub mod flow;
pub mod member;
pub mod pick;
pub mod table;
