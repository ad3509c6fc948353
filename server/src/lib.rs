//! The parts of wscluster. One folder a part, one file a concern:
//!
//! - [`shard`] holds client sockets and fans records out; [`kafka`] feeds it; [`feed`] is the contract between the two.
//! - [`gateway`] routes each upgrade to a shard with a free slot and becomes a byte tunnel.
//! - [`local`] runs a manifest as processes on one machine.
//! - [`load`], [`verify`], [`publish`], [`tail`], [`top`] are the tools at hand.
//!
//! Shared below them: [`ws`] (RFC 6455), [`net`] (sockets), [`passing`] (sockets that outlive a process), [`health`] (the JSON
//! everybody reads), [`admin`] (its HTTP server), [`drain`] (moving connections away), [`process`] (signals and usage),
//! [`alarm`] (parts that must not end), [`telemetry`] (logs), [`spool`] (lines that wait for their reader).

pub mod admin;
pub mod alarm;
pub mod backoff;
pub mod cli;
pub mod drain;
pub mod fds;
pub mod feed;
pub mod gateway;
pub mod health;
pub mod kafka;
pub mod load;
pub mod local;
pub mod net;
pub mod passing;
pub mod process;
pub mod publish;
pub mod shard;
pub mod spool;
pub mod tail;
pub mod telemetry;
pub mod top;
pub mod verify;
pub mod ws;
