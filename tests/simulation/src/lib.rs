//! Simulates a cluster in virtual time, generated from a seed. The plan and the gateway's picker are the real ones;
//! everything else is a model.
//!
//! - [`scenario`]: the specs, edits and faults of one run, and their times.
//! - [`world`]: runs a scenario. [`kube`] has the API server, the `StatefulSet` controller and the kubelet;
//!   [`shard`], [`gateway`], [`client`] and [`operator`] are the processes; [`log`] is Kafka, [`fault`] what fails.
//! - [`check`]: the invariants. A run that violates one prints its trace.
//! - [`mutant`]: breaks one part on purpose, to prove that the checks can fail.
//! - [`scale`]: another model, for figures of a thousand shards.

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

/// Virtual milliseconds since the start of the run.
pub type Ms = u64;
