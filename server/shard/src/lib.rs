//! The shard: holds client connections and fans records out to them.
//!
//! One event loop a worker thread ([`worker`]), each with its own listener on the same port; they share slots and a few
//! atomics ([`shared`]). A connection begins in [`handshake`], lives in [`connection`] and [`session`], gets what
//! [`fanout`] marks and [`delivery`] writes, and ends by [`closing`]. The admin server and the drain run beside them.

mod accept;
pub mod admin;
mod backfill;
mod channels;
mod closing;
mod connection;
mod delivery;
pub mod drain;
mod fanout;
mod gateway_presence;
mod handshake;
mod liveness;
pub mod metrics;
mod outbox;
mod pending_subscribes;
mod run;
mod server;
mod session;
pub mod settings;
pub mod shared;
pub mod slots;
mod slow;
mod source;
mod wheel;
pub mod window;
mod worker;

#[cfg(test)]
mod tests;

pub use run::{Args, run};
pub use server::{Server, StartError};
