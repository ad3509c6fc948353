//! A cluster in virtual time, drawn from a seed: the plan and the gateway's picker are the real ones, all else is a model.
//!
//! A [`scenario`] says what is wanted, edited and broken, and when. A [`world`] plays it: API server, `StatefulSet` controller
//! and kubelet in [`kube`], the process of a [`shard`], [`gateway`]s with what they believe, [`client`]s that come back with
//! their position, the [`log`] they read, the [`operator`], and [`fault`]s. What must hold is in [`check`]; a run that breaks it
//! tells its story. A [`mutant`] breaks one part on purpose: that proves that the checks can fail. [`scale`] is another model,
//! for numbers: a thousand shards.

pub mod check;
pub mod client;
pub mod event;
pub mod fault;
pub mod gateway;
pub mod kube;
pub mod log;
pub mod mutant;
pub mod operator;
pub mod play;
pub mod report;
pub mod scale;
pub mod scenario;
pub mod shard;
pub mod world;

/// Milliseconds since the world began.
pub type Ms = u64;
