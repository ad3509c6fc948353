//! What happens to each shard next, as pure functions: of a spec, of what was observed, and of the time.
//!
//! [`plan`] decides on steps (drain, remove, restart), [`autoscale`] on the number of shards, [`rebalance`] on who moves to
//! emptier shards. None of them has a client, a clock or a memory; whoever calls them observes, acts and asks again,
//! with [`Returning`] and [`Autoscaler`] for a memory. The
//! operator, `wscluster local` and the simulation call the same functions, so what the simulation proves is what runs.

mod autoscale;
mod autoscaler;
mod decide;
mod desired;
mod observed;
mod outcome;
mod reason;
mod rebalance;
mod returning;
mod rounds;
mod slots;
mod standing;
mod starts;
mod steps;
mod time;
mod unready;

pub use autoscale::{Sample, Scale, Wanted, Why, autoscale};
pub use autoscaler::Autoscaler;
pub use decide::plan;
pub use desired::Desired;
pub use observed::{Observed, Shard, State};
pub use outcome::{Action, Plan, Step};
pub use reason::{Back, Blocked, Cause, Reason, Release};
pub use rebalance::{Evict, rebalance};
pub use returning::Returning;
pub use rounds::Rounds;
pub use time::Timestamp;
