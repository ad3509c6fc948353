//! Parts that are broken on purpose, one at a time. Each has to be caught within twenty thousand
//! seeds, or a check is worth nothing.

use clap::ValueEnum;
use wscluster_plan::{Action, Desired, Observed, Plan, Shard, State};

use crate::scenario::Spec;
use crate::world::World;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mutant {
    /// The plan removes and replaces shards without a drain.
    RemovesWithoutDrain,
    /// The plan takes every slot for free.
    IgnoresSlots,
    /// The plan counts slots of shards that a gateway does not know.
    CountsUnknown,
    /// The plan forgets clients that are on their way back.
    ForgetsReturning,
    /// The plan lets the partition go at once.
    LetsTemplatesRoll,
    /// The plan never takes a drain back.
    NeverUndrains,
    /// The plan takes a silent shard for an empty one.
    RemovesSilent,
    /// The plan lets a shard go that only the operator cannot reach.
    IgnoresKubelet,
    /// The plan has everything in motion at once.
    IgnoresMotion,
    /// The plan waits for broken shards to turn ready.
    WaitsForBroken,
    /// The operator trusts health answers from before its own action.
    TrustsOldHealth,
    /// The picker takes any shard.
    PicksFull,
    /// The picker takes a shard that drains.
    PicksDraining,
    /// A gateway tries one shard only.
    NeverRetries,
    /// A shard grants slots that it has not.
    OverAdmits,
    /// A shard forgets to give a slot back.
    LeaksSlots,
    /// A shard turns ready before its window is filled, and says it has everything.
    ReadyTooEarly,
    /// A shard begins at the end of the log, whatever the client has seen.
    ForgetsPosition,
    /// A shard begins one too early.
    Repeats,
}

impl World {
    /// Breaks what the plan is told.
    pub(crate) fn mutant_before(&self, desired: &mut Desired, observed: &mut Observed) {
        match self.mutant {
            Some(Mutant::IgnoresSlots) => {
                for shard in &mut observed.shards {
                    shard.capacity = shard.connections + 1_000;
                    shard.state = if shard.state == State::Full { State::Ready } else { shard.state };
                }
            }
            Some(Mutant::CountsUnknown) => observed.shards.iter_mut().for_each(|shard| shard.known_to_gateways = true),
            Some(Mutant::ForgetsReturning) => observed.reconnecting = 0,
            Some(Mutant::RemovesSilent) => {
                for shard in observed.shards.iter_mut().filter(|shard| shard.state == State::Silent) {
                    shard.state = State::Failing;
                }
            }
            Some(Mutant::IgnoresKubelet) => observed.shards.iter_mut().for_each(|shard| shard.pod_ready = false),
            Some(Mutant::WaitsForBroken) => {
                let waits = |shard: &&mut Shard| {
                    matches!(shard.state, State::Failing | State::Starting) && shard.revision != desired.revision
                };
                for shard in observed.shards.iter_mut().filter(waits) {
                    (shard.state, shard.pod_ready, shard.since) = (State::Silent, false, None);
                }
            }
            Some(Mutant::IgnoresMotion) => desired.max_in_motion = 1_000,
            _ => {}
        }
    }

    /// Breaks what the plan says.
    pub(crate) fn mutant_after(&self, spec: &Spec, planned: &mut Plan) {
        match self.mutant {
            Some(Mutant::RemovesWithoutDrain) => {
                for step in &mut planned.steps {
                    if matches!(step.action, Action::Drain { .. }) && step.ordinal >= spec.shards {
                        planned.replicas = planned.replicas.min(step.ordinal);
                        step.action = Action::Remove;
                    } else if matches!(step.action, Action::Drain { .. }) {
                        planned.partition = planned.partition.min(step.ordinal);
                        step.action = Action::Restart;
                    }
                }
            }
            Some(Mutant::LetsTemplatesRoll) => planned.partition = 0,
            Some(Mutant::NeverUndrains) => planned.steps.retain(|step| step.action != Action::Undrain),
            _ => {}
        }
    }
}
