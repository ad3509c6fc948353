//! The gateway: routes each upgrade to a shard with a free slot, then relays bytes without looking into them.
//!
//! It keeps no state that matters: gateways may start, run side by side and end at any time. Only a shard grants
//! slots; a gateway's table of loads decides which shard it asks first.
//!
//! - [`run`] starts and ends the process; [`Args`] is its command line, [`Settings`] its part of the manifest.
//!   `gateway` is what its threads share.
//! - A client passes `worker` (accept), `client` (its head), `admission` (who may connect), `handshake` (choose a
//!   shard, ask it, wait for a slot), `dial` (one shard), `ports` (the local ports for that), `forward` (the head as
//!   the shard gets it). `answer` is what a client without a tunnel gets. `docs/handshake.md` draws it.
//! - `outcome` and `record`: the one outcome of each handshake, with its phase times.
//! - `tunnel` relays bytes and is the hot path; `registry` keeps the tunnels of a worker, so that they can be ended
//!   or moved.
//! - `poll` asks the shards for their health; `members` and `discovery` provide the list of shards.
//! - `status`, `metrics`, `gauges`: what the admin port shows.

mod admission;
mod answer;
mod args;
mod client;
mod client_address;
mod dial;
mod discovery;
mod forward;
mod gateway;
mod gauges;
mod handshake;
mod master;
mod members;
mod metrics;
mod outcome;
mod poll;
mod ports;
mod queue;
mod record;
mod registry;
mod run;
mod settings;
mod socket;
mod stage;
mod status;
mod tunnel;
mod worker;
mod worker_handle;

#[cfg(test)]
mod tests;

pub use args::Args;
pub use metrics::reference as metrics_reference;
pub use run::run;
pub use settings::Settings;
