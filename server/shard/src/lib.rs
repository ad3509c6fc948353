//! The shard: holds client connections and sends each of them the records of its channels.
//!
//! Each worker thread runs one event loop with its own listener on the same port, its own connections, channels and
//! window. Workers share only slots and some atomics.
//!
//! - Start and end: [`Args`] and [`run`] are the command `wscluster shard`; `server` starts the workers; `drain` and
//!   `admin` serve the admin port.
//! - A connection: `accept`, `handshake` (with the admission step), `connection`, `session` (requests), `liveness`
//!   (pings), `closing`.
//! - A record: `source` feeds each `worker`; the `window` keeps it for recovery; `fanout` marks it as due in the
//!   `outbox`; `delivery` writes it; `slow` applies the policy for slow clients.
//! - Recovery: `window::recover`, `pending_subscribes` for requests that must wait, `backfill` for records older than
//!   the window.
//! - [`settings::Settings`]: the settings of a shard. The local runner compares them to decide whether a shard has to
//!   restart.

mod accept;
mod admin;
mod backfill;
mod channels;
mod closing;
mod connection;
mod delivery;
mod drain;
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
mod shared;
mod slots;
mod slow;
mod source;
mod wheel;
mod window;
mod worker;

#[cfg(test)]
mod tests;

pub use metrics::reference as metrics_reference;
pub use run::{Args, run};
