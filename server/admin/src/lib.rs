//! The admin contract of shards and gateways: the JSON of `/health`, `/drain` and `/evict`, the HTTP server that answers,
//! and the client that asks.
//!
//! - [`health`]: the types of `GET /health`.
//! - [`start`]: the server; a process implements [`Part`].
//! - [`drain_routes`]: `/drain` and `/evict`.
//! - [`client`]: one request, bounded in time and size.

pub mod client;
pub mod drain_routes;
pub mod health;
mod server;

pub use server::{AdminError, GATEWAY, Part, start};
