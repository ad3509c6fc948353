//! The admin contract of shards, gateways and the local runner: the JSON of `/health`, `/drain` and `/evict`, the
//! HTTP server and the one client for it.
//!
//! - [`health`]: the types of `GET /health`; [`health::State`] is the one enum for the state of a shard.
//! - [`drain`]: the types and routes of `/drain` and `/evict`.
//! - [`start`]: the server; a process implements [`AdminPart`]. [`Access`] and [`Token`]: whose calls it
//!   takes.
//! - [`metrics`]: the two text formats of `GET /metrics`, and the metrics that every process has.
//! - [`client`]: [`client::AdminClient`], used by gateways, the operator, the local runner and the tools.

mod access;
pub mod client;
pub mod drain;
pub mod health;
pub mod metrics;
mod server;
mod token;

pub use access::{Access, AdminHosts};
pub use server::{AdminError, AdminPart, GATEWAY_HEADER, serve, start};
pub use token::{Token, TokenError};
