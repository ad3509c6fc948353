//! Decides what happens to each shard next.
//!
//! Every decision is a pure function of a spec, an observation and the time:
//!
//! - [`plan()`] turns a [`Desired`] state and an [`Observed`] state into a [`Plan`]: one [`Step`] per shard (drain,
//!   undrain, remove, restart or wait), each with its [`Reason`].
//! - [`autoscale()`] computes the number of shards from the number of connections.
//! - [`rebalance()`] selects connections to move to emptier shards.
//!
//! None of them has a client, a clock or memory. The caller observes, acts, and asks again. [`Reconnecting`],
//! [`Autoscaler`] and [`RebalanceRounds`] hold what must be remembered between two calls. The operator, `wscluster
//! local` and the simulation call the same functions. `docs/plan.md` lists the rules.

mod autoscale;
mod autoscaler;
mod classify;
mod decide;
mod desired;
mod observed;
mod plan;
mod reason;
mod rebalance;
mod reconnecting;
mod rounds;
mod schedule;
mod slots;
mod steps;
mod time;
mod unready;
mod view;

pub use autoscale::{CurrentScale, Sample, ScaleReason, WantedShards, autoscale};
pub use autoscaler::Autoscaler;
pub use decide::plan;
pub use desired::Desired;
pub use observed::{Observed, Shard, State};
pub use plan::{Action, Plan, Step};
pub use reason::{Blocked, Cause, Reason, Release, UndrainCause};
pub use rebalance::{Evict, rebalance};
pub use reconnecting::Reconnecting;
pub use rounds::RebalanceRounds;
pub use time::Timestamp;
